#pragma once

#include <string>
#include <string_view>

namespace perpend {

// Adapters of the default model that come with the program are names of models themselves:
// smollm2-diffusion, debian-ranker.
bool is_shipped_adapter(std::string_view name);

// The folder of such an adapter: assets/NAME of the checkout that the program was built from, or
// share/perpend/NAME beside the bin/ it is installed in. Throws IoError that names both and says
// how it is made.
std::string shipped_adapter(const std::string& name);

}  // namespace perpend
