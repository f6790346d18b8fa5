#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/vector_io.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 8;  // of a CTA, each of which has a row
constexpr int kThreads = kWarps * kWarp;
constexpr int kWidth = 4;  // values that a lane loads at once

using Four = device::Values<kWidth>;

// The same value for all lanes, added in a fixed order.
__device__ float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, step);
  }
  return value;
}

// Where a lane's chunk `c` of a row begins.
__device__ int column_of(int c) {
  return (c * kWarp + static_cast<int>(threadIdx.x) % kWarp) * kWidth;
}

template <class T>
struct NormParams {
  const float* x;       // [rows, dim]
  const T* delta;       // [rows, dim] or null
  const float* weight;  // [dim]
  float* sum;           // [rows, dim] or null
  T* out;               // [rows, dim]
  float* inverse_rms;   // [rows]
  std::int64_t rows;
  int dim;
  float epsilon;
};

// A warp keeps its row in registers.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads) add_rms_norm_kernel(NormParams<T> p) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= p.rows) return;
  const std::int64_t begin = row * p.dim;
  Four value[kChunks];
  float squares = 0.0F;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = column_of(c);
    if (column >= p.dim) continue;
    value[c] = device::load_values<kWidth>(p.x + begin + column);
    if (p.delta != nullptr) {
      const Four delta = device::load_values<kWidth>(p.delta + begin + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[c].v[i] += delta.v[i];
      device::store_values(p.sum + begin + column, value[c]);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares = fmaf(value[c].v[i], value[c].v[i], squares);
  }
  const float inverse = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(p.dim) + p.epsilon);
  if (threadIdx.x % kWarp == 0) p.inverse_rms[row] = inverse;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = column_of(c);
    if (column >= p.dim) continue;
    const Four weight = device::load_values<kWidth>(p.weight + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[c].v[i] *= inverse * weight.v[i];
    device::store_values(p.out + begin + column, value[c]);
  }
}

template <class T>
struct NormGradParams {
  const float* sum;          // [rows, dim]
  const float* weight;       // [dim]
  const float* inverse_rms;  // [rows]
  const T* d_out;            // [rows, dim]
  const float* d_sum;        // [rows, dim] or null
  float* d_x;                // [rows, dim]
  T* d_delta;                // [rows, dim] or null
  float* d_weight;           // [CTAs, dim] or null
  std::int64_t rows;
  int dim;
};

// What a lane knows of the row of its warp.
template <int kChunks>
struct GradRow {
  Four value[kChunks];  // of the sum
  Four d_out[kChunks];

  template <class T>
  __device__ void load(const NormGradParams<T>& p, std::int64_t begin) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = column_of(c);
      if (column >= p.dim) continue;
      value[c] = device::load_values<kWidth>(p.sum + begin + column);
      d_out[c] = device::load_values<kWidth>(p.d_out + begin + column);
    }
  }

  // sum_j d_out_j weight_j value_j
  template <class T>
  __device__ float dot(const NormGradParams<T>& p) const {
    float sum = 0.0F;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = column_of(c);
      if (column >= p.dim) continue;
      const Four weight = device::load_values<kWidth>(p.weight + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        sum = fmaf(d_out[c].v[i] * weight.v[i], value[c].v[i], sum);
      }
    }
    return warp_sum(sum);
  }
};

template <class T, int kChunks>
__device__ void store_gradient(const NormGradParams<T>& p, std::int64_t begin, float inverse,
                               const GradRow<kChunks>& row) {
  const float along = row.dot(p) * inverse * inverse * inverse / static_cast<float>(p.dim);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = column_of(c);
    if (column >= p.dim) continue;
    const Four weight = device::load_values<kWidth>(p.weight + column);
    Four gradient{};
    if (p.d_sum != nullptr) gradient = device::load_values<kWidth>(p.d_sum + begin + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      gradient.v[i] += inverse * row.d_out[c].v[i] * weight.v[i] - along * row.value[c].v[i];
    }
    device::store_values(p.d_x + begin + column, gradient);
    if (p.d_delta != nullptr) device::store_values(p.d_delta + begin + column, gradient);
  }
}

// Adds what the warps of a CTA have summed, in their order.
template <int kChunks>
__device__ void store_weight_sums(const Four (&sums)[kChunks], float* to, int dim) {
  __shared__ Four of_warps[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    __syncthreads();
    of_warps[warp][lane] = sums[c];
    __syncthreads();
    if (warp != 0 || column_of(c) >= dim) continue;
    Four total{};
    for (int w = 0; w < kWarps; ++w) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) total.v[i] += of_warps[w][lane].v[i];
    }
    device::store_values(to + column_of(c), total);
  }
}

// Each warp takes every so many rows.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads) add_rms_norm_backward_kernel(NormGradParams<T> p) {
  Four d_weight[kChunks] = {};
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarps;
  std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  for (; index < p.rows; index += step) {
    const std::int64_t begin = index * p.dim;
    const float inverse = p.inverse_rms[index];
    GradRow<kChunks> row;
    row.load(p, begin);
    store_gradient(p, begin, inverse, row);
    if (p.d_weight == nullptr) continue;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (column_of(c) >= p.dim) continue;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        d_weight[c].v[i] = fmaf(row.d_out[c].v[i] * inverse, row.value[c].v[i], d_weight[c].v[i]);
      }
    }
  }
  if (p.d_weight != nullptr) {
    store_weight_sums(d_weight, p.d_weight + static_cast<std::int64_t>(blockIdx.x) * p.dim, p.dim);
  }
}

// Calls function(std::integral_constant<int, chunks>) with the least built number of chunks that
// hold a row.
template <class Function>
void dispatch_chunks(std::int64_t dim, Function function) {
  switch (ceil_div(dim, kWarp * kWidth)) {
    case 1:
    case 2:
    case 3:
    case 4:
      return function(std::integral_constant<int, 4>{});
    case 5:
      return function(std::integral_constant<int, 5>{});
    case 6:
    case 7:
    case 8:
      return function(std::integral_constant<int, 8>{});
    default:
      return function(std::integral_constant<int, 16>{});
  }
}

}  // namespace

void cuda_add_rms_norm(const AddRmsNormArgs& args, Stream stream) {
  check_add_rms_norm(args);
  const std::int64_t rows = args.out.size(0);
  const std::int64_t dim = args.out.size(1);
  if (rows == 0) return;
  const Launch launch("add_rms_norm", args.out.device, stream);
  dispatch_element(args.out.dtype, [&]<class T>(Element<T>) {
    const NormParams<T> params{args.x.as<const float>(),
                               args.delta.as<const T>(),
                               args.weight.as<const float>(),
                               args.sum.as<float>(),
                               args.out.as<T>(),
                               args.inverse_rms.as<float>(),
                               rows,
                               static_cast<int>(dim),
                               args.epsilon};
    dispatch_chunks(dim, [&](auto chunks) {
      add_rms_norm_kernel<T, chunks()>
          <<<static_cast<unsigned>(ceil_div(rows, kWarps)), kThreads, 0, launch.stream()>>>(params);
    });
  });
  launch.check_launched();
}

void cuda_add_rms_norm_backward(const AddRmsNormGradArgs& args, Stream stream) {
  check_add_rms_norm_grad(args);
  const std::int64_t rows = args.d_out.size(0);
  const std::int64_t dim = args.d_out.size(1);
  const std::int64_t parts = args.d_weight ? args.d_weight.size(0) : ceil_div(rows, kWarps);
  if (parts == 0) return;
  const Launch launch("add_rms_norm backward", args.d_out.device, stream);
  dispatch_element(args.d_out.dtype, [&]<class T>(Element<T>) {
    const NormGradParams<T> params{args.sum.as<const float>(),
                                   args.weight.as<const float>(),
                                   args.inverse_rms.as<const float>(),
                                   args.d_out.as<const T>(),
                                   args.d_sum.as<const float>(),
                                   args.d_x.as<float>(),
                                   args.d_delta.as<T>(),
                                   args.d_weight.as<float>(),
                                   rows,
                                   static_cast<int>(dim)};
    dispatch_chunks(dim, [&](auto chunks) {
      add_rms_norm_backward_kernel<T, chunks()>
          <<<static_cast<unsigned>(parts), kThreads, 0, launch.stream()>>>(params);
    });
  });
  launch.check_launched();
}

}  // namespace perpend
