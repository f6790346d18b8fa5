#pragma once

#include <cuda_runtime_api.h>

#include "perpend/core/dtype.h"

// The forward kernels from the host: each instantiation is a source of its own, made from
// hopper_forward.cu.in and portable_forward.cu.in.

namespace perpend {

namespace device {
struct HopperForwardParams;
struct PortableForwardParams;
}  // namespace device

enum class ForwardVariant {
  kPlain,
  kSkips,   // parts test whether they have a step
  kChanges  // scores are changed before softmax
};

struct HopperLaunch {
  const device::HopperForwardParams* params;
  int num_items;
  int num_sms;
  cudaStream_t stream;
};

struct PortableLaunch {
  const device::PortableForwardParams* params;
  int num_items;
  cudaStream_t stream;
};

template <DType kType, int kHeadDim, ForwardVariant kVariant>
void launch_hopper_forward(const HopperLaunch& launch);

template <DType kType, int kHeadDim>
void launch_portable_forward(const PortableLaunch& launch);

}  // namespace perpend
