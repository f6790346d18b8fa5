#pragma once

#include <array>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "perpend/core/dtype.h"
#include "perpend/core/error.h"

// The decode kernel and the one behind it from the host: each instantiation is a source of its own,
// made from hopper_decode.cu.in and split_sum.cu.in.

namespace perpend {

namespace device {
struct HopperDecodeParams;
struct SplitSumParams;
}  // namespace device

enum class DecodeVariant {
  kPlain,
  kChanges  // scores are changed before softmax
};

struct DecodeLaunch {
  const device::HopperDecodeParams* params;
  int num_ctas;
  cudaStream_t stream;
};

// Behind a DecodeLaunch of the same stream.
struct SplitSumLaunch {
  const device::SplitSumParams* params;
  std::int64_t num_sums;
  cudaStream_t stream;
};

template <DType kType, int kHeadDim, DecodeVariant kVariant>
void launch_hopper_decode(const DecodeLaunch& launch);

template <DType kType, int kHeadDim>
void launch_split_sum(const SplitSumLaunch& launch);

// head_dim as these kernels pad it.
constexpr std::array<std::int64_t, 3> kDecodeHeadDims = {64, 128, 256};
constexpr std::int64_t decode_head_dim(std::int64_t head_dim) {
  for (const std::int64_t built : kDecodeHeadDims) {
    if (head_dim <= built) return built;
  }
  bug("attention: a head_dim that supports() refuses");
}

}  // namespace perpend
