#include "perpend/kernels/cuda/launch.h"

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {

Launch::Launch(std::string_view operation, Device device, Stream stream)
    : operation_(operation),
      stream_(static_cast<cudaStream_t>(stream.cuda_stream)),
      allocator_(stream.allocator),
      device_(device.index) {
  demand(device.type == DeviceType::kCuda, operation, ": operands must be on a CUDA device (",
         device, ")");
  cuda_check(cudaGetDevice(&device_before_), operation);
  cuda_check(cudaSetDevice(device.index), operation);
}

Launch::~Launch() {
  // Nothing can be done about a failure here, and the next call reports it.
  (void)cudaSetDevice(device_before_);
}

Behind Launch::behind() const {
  constexpr int kFirstToOverlap = 9;
  int major = 0;
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_),
             operation_);
  return {stream_, major >= kFirstToOverlap, operation_};
}

void Launch::check_launched() const { cuda_check(cudaGetLastError(), operation_); }

}  // namespace perpend
