#pragma once

#include <filesystem>

namespace perpend {

// Where models and other files that were fetched lie: PERPEND_HOME, else `perpend` in the user's
// cache folder, as ./run has it.
std::filesystem::path home_folder();

}  // namespace perpend
