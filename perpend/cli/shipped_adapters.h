#pragma once

#include <string>

namespace perpend {

// The path of a file or folder that comes with the program: assets/NAME of the checkout it was
// built from, or share/perpend/NAME beside the bin/ it is installed in. Throws IoError naming both.
std::string shipped_path(const std::string& name);

}  // namespace perpend
