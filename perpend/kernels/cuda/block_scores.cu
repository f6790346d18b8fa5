#include <cmath>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / device::kWarp;

template <class Element>
struct Heads {
  const Element* data;  // [rows, heads, head_dim]
  std::int64_t row_stride, head_stride;

  __device__ const Element* head(std::int64_t row, std::int64_t index) const {
    return data + row * row_stride + index * head_stride;
  }
};

struct Larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  __device__ double operator()(double a, double b) const { return a + b; }
};

// One CTA for each row and query head: scores by a warp a key, then their softmax.
template <class Element>
__global__ void alpha_kernel(Heads<Element> q, Heads<Element> k, int num_q_heads, int group_size,
                             std::int64_t num_keys, int head_dim, float scale, float* out) {
  __shared__ float maxima[kWarps];
  __shared__ double sums[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % device::kWarp;
  const int warp = static_cast<int>(threadIdx.x) / device::kWarp;
  const int head = static_cast<int>(blockIdx.x) % num_q_heads;
  const Element* query = q.head(blockIdx.x / num_q_heads, head);
  float* alpha = out + blockIdx.x * num_keys;  // [num_keys]
  float max = -INFINITY;
  for (std::int64_t key = warp; key < num_keys; key += kWarps) {
    const Element* row = k.head(key, head / group_size);
    float score = 0.0F;
    for (int i = lane; i < head_dim; i += device::kWarp) {
      score += static_cast<float>(query[i]) * static_cast<float>(row[i]);
    }
    for (int step = device::kWarp / 2; step > 0; step /= 2) {
      score += device::shuffle_down(score, step);
    }
    if (lane == 0) {
      alpha[key] = score * scale;
      max = fmaxf(max, score * scale);
    }
  }
  max = device::block_reduce(max, -INFINITY, maxima, Larger{});
  double sum = 0.0;
  for (std::int64_t key = threadIdx.x; key < num_keys; key += kThreads) {
    alpha[key] = expf(alpha[key] - max);
    sum += alpha[key];
  }
  sum = device::block_reduce(sum, 0.0, sums, Sum{});
  const auto inverse = static_cast<float>(1.0 / sum);
  for (std::int64_t key = threadIdx.x; key < num_keys; key += kThreads) alpha[key] *= inverse;
}

// One CTA for each block of keys.
__global__ void score_kernel(const float* alpha, const std::int32_t* indptr, int num_rows,
                             std::int64_t num_keys, float* scores) {
  __shared__ double sums[kWarps];
  const std::int64_t begin = indptr[blockIdx.x];
  const std::int64_t end = indptr[blockIdx.x + 1];
  double sum = 0.0;
  for (int row = 0; row < num_rows; ++row) {
    for (std::int64_t key = begin + threadIdx.x; key < end; key += blockDim.x) {
      sum += alpha[row * num_keys + key];
    }
  }
  sum = device::block_reduce(sum, 0.0, sums, Sum{});
  if (threadIdx.x == 0) scores[blockIdx.x] = static_cast<float>(sum / num_rows);
}

template <class Element>
Heads<Element> heads_of(const TensorView& view) {
  return {view.as<const Element>(), view.stride(0), view.stride(1)};
}

template <class Element>
void launch_alpha(const BlockScoresArgs& args, const Launch& launch) {
  const auto dim = static_cast<int>(args.q.size(2));
  const float scale = args.scale != 0.0F ? args.scale : 1.0F / std::sqrt(static_cast<float>(dim));
  alpha_kernel<<<static_cast<unsigned>(args.q.size(0) * args.q.size(1)), kThreads, 0,
                 launch.stream()>>>(heads_of<Element>(args.q), heads_of<Element>(args.k),
                                    static_cast<int>(args.q.size(1)),
                                    static_cast<int>(args.q.size(1) / args.k.size(1)),
                                    args.k.size(0), dim, scale, args.alpha.as<float>());
  launch.check_launched();
}

}  // namespace

void cuda_block_scores(const BlockScoresArgs& args, Stream stream) {
  check_block_scores(args);
  const Launch launch("block_scores", args.q.device, stream);
  switch (args.q.dtype) {
    case DType::kF32:
      launch_alpha<float>(args, launch);
      break;
    case DType::kF16:
      launch_alpha<__half>(args, launch);
      break;
    default:
      launch_alpha<__nv_bfloat16>(args, launch);
  }
  constexpr unsigned kScoreThreads = 256;
  score_kernel<<<static_cast<unsigned>(args.scores.size(0)), kScoreThreads, 0, launch.stream()>>>(
      args.alpha.as<const float>(), args.indptr.as<const std::int32_t>(),
      static_cast<int>(args.q.size(0) * args.q.size(1)), args.k.size(0), args.scores.as<float>());
  launch.check_launched();
}

}  // namespace perpend
