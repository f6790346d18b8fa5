#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace perpend {

// The prompt of a command: `argument` as it stands, or all of standard input when it is "-", or
// absent while standard input is no terminal. Throws InvalidArgument when there is none or an empty
// one, or when it is longer than 64 MiB.
std::string read_prompt(const std::optional<std::string>& argument);

// All of standard input. Throws InvalidArgument "<what>: ..." when it is longer than 64 MiB.
std::string read_standard_input(std::string_view what);

}  // namespace perpend
