#pragma once

#include <string>

namespace perpend {

// The prompt of a command: `argument` as it stands, or all of standard input when it is "-", or
// absent while standard input is no terminal. Throws InvalidArgument when there is none, or when it
// is longer than 64 MiB.
std::string read_prompt(const std::string& argument);

}  // namespace perpend
