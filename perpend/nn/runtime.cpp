#include "perpend/nn/runtime.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "perpend/nn/device_choice.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {

Runtime::Runtime(Device device, int num_threads)
    : threads_(num_threads), workspace_(torch_device(device)) {
  at::set_num_threads(1);
  context_.device = device;
  context_.kernels = &kernels_for(device);
  context_.stream.threads = &threads_;
  context_.workspace = &workspace_;
  context_.schedules = &schedule_cache();
  if (device.type == DeviceType::kCuda) use_gpu(device);
}

void Runtime::use_gpu(Device device) {
  load_torch_cuda();
  // Parts of a sum that is split over the GPU are added in f32.
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  const c10::impl::VirtualGuardImpl devices(torch::kCUDA);
  const c10::Stream stream = devices.getStreamFromGlobalPool(torch_device(device));
  context_.type = torch::kBFloat16;
  context_.torch_stream = stream;
  context_.stream.cuda_stream = stream.native_handle();
  context_.captures_decoding = context_.kernels->attention.has_plans(device);
}

}  // namespace perpend
