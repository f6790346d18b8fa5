#include <algorithm>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/device/vector_io.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kMostThreads = 512;
constexpr int kWide = 8;

template <class T>
struct CrossEntropyParams {
  T* logits;                    // [rows, vocab_size]
  const std::int64_t* targets;  // [rows]
  const float* weights;         // [rows]
  float* losses;                // [rows]
  std::int64_t vocab_size;
};

// One CTA a row, which its caches hold from the first pass on: the largest value, the sum of
// exponentials, the gradient.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostThreads) cross_entropy_kernel(CrossEntropyParams<T> p) {
  __shared__ float shared[kMostThreads / device::kWarp];
  T* row = p.logits + blockIdx.x * p.vocab_size;
  const std::int64_t target = p.targets[blockIdx.x];
  const float weight = p.weights[blockIdx.x];
  const float at_target = static_cast<float>(row[target]);
  const auto each_chunk = [&](auto function) {
    for (std::int64_t i = threadIdx.x * kCount; i < p.vocab_size; i += blockDim.x * kCount) {
      function(i, device::load_values<kCount>(row + i));
    }
  };
  float most = -INFINITY;
  each_chunk([&](std::int64_t, const device::Values<kCount>& values) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) most = fmaxf(most, values.v[j]);
  });
  most =
      device::block_reduce(most, -INFINITY, shared, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0.0F;
  each_chunk([&](std::int64_t, const device::Values<kCount>& values) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum += __expf(values.v[j] - most);
  });
  // Here every thread has read the target.
  sum = device::block_reduce(sum, 0.0F, shared, [](float a, float b) { return a + b; });
  if (threadIdx.x == 0) p.losses[blockIdx.x] = weight * (most + logf(sum) - at_target);
  const float scale = weight / sum;
  each_chunk([&](std::int64_t i, device::Values<kCount> values) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      values.v[j] = scale * __expf(values.v[j] - most) - (i + j == target ? weight : 0.0F);
    }
    device::store_values(row + i, values);
  });
}

}  // namespace

void cuda_cross_entropy(const CrossEntropyArgs& args, Stream stream) {
  check_cross_entropy(args);
  const std::int64_t rows = args.logits.size(0);
  if (rows == 0) return;
  const std::int64_t vocab_size = args.logits.size(1);
  const bool wide =
      vocab_size % kWide == 0 && reinterpret_cast<std::uintptr_t>(args.logits.data) % 16 == 0;
  const std::int64_t chunks = ceil_div(vocab_size, std::int64_t{wide ? kWide : 1});
  const auto threads = static_cast<unsigned>(
      std::min<std::int64_t>(kMostThreads, round_up(chunks, std::int64_t{device::kWarp})));
  const Launch launch("cross_entropy", args.logits.device, stream);
  dispatch_element(args.logits.dtype, [&]<class T>(Element<T>) {
    const CrossEntropyParams<T> params{args.logits.as<T>(), args.targets.as<const std::int64_t>(),
                                       args.weights.as<const float>(), args.losses.as<float>(),
                                       vocab_size};
    const auto kernel = wide ? cross_entropy_kernel<T, kWide> : cross_entropy_kernel<T, 1>;
    kernel<<<static_cast<unsigned>(rows), threads, 0, launch.stream()>>>(params);
  });
  launch.check_launched();
}

}  // namespace perpend
