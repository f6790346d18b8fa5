#include <climits>
#include <cmath>

#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

using device::Peak;

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / device::kWarp;

// The larger value, the lower index among equals.
struct HigherPeak {
  __device__ Peak operator()(Peak a, Peak b) const {
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
  }
};

// One CTA a row: the largest value, then the sum of exponentials while the row is in cache.
__global__ void vocabulary_kernel(const float* logits, std::int64_t stride, int vocab_size,
                                  VocabularySummary* out) {
  __shared__ Peak peaks[kWarps];
  __shared__ double sums[kWarps];
  const float* row = logits + blockIdx.x * stride;  // [vocab_size]
  const Peak nothing{-INFINITY, INT_MAX};
  Peak peak = nothing;
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    peak = HigherPeak{}(peak, {row[i], i});
  }
  peak = device::block_reduce(peak, nothing, peaks, HigherPeak{});
  // A row of -inf alone has any finite base, and log 0 as its sum.
  const float base = fmaxf(peak.value, -1e30F);
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    sum += expf(row[i] - base);
  }
  sum = device::block_reduce(sum, 0.0, sums, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) {
    // Nothing compares with NaN: any index is as good for a row of them.
    out[blockIdx.x] = {peak.index < vocab_size ? peak.index : 0, peak.value,
                       static_cast<float>(peak.value + log(sum))};
  }
}

}  // namespace

void cuda_vocabulary(const VocabularyArgs& args, Stream stream) {
  check_vocabulary(args);
  const std::int64_t rows = args.logits.size(0);
  if (rows == 0) return;
  const Launch launch("vocabulary", args.logits.device, stream);
  vocabulary_kernel<<<static_cast<unsigned>(rows), kThreads, 0, launch.stream()>>>(
      args.logits.as<const float>(), args.logits.stride(0), static_cast<int>(args.logits.size(1)),
      args.out.data());
  launch.check_launched();
}

}  // namespace perpend
