#pragma once

#include <source_location>
#include <string_view>

#include <cuda_runtime_api.h>

namespace perpend {

// Throws OutOfMemory when `status` says so and DeviceError for any other failure; the text names
// `what`, CUDA's own words and the caller's place.
void cuda_check(cudaError_t status, std::string_view what,
                std::source_location where = std::source_location::current());

}  // namespace perpend
