#include "perpend/kernels/cuda/cuda_check.h"

#include "perpend/core/error.h"

namespace perpend {

void cuda_check(cudaError_t status, std::string_view what, std::source_location where) {
  if (status == cudaSuccess) return;
  const std::string text = concat(what, ": ", cudaGetErrorString(status), " (", where.file_name(),
                                  ":", where.line(), ")");
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(text);
  throw DeviceError(text);
}

}  // namespace perpend
