#include <algorithm>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "perpend/core/error.h"
#include "perpend/kernels/cuda/backward_preparation.h"
#include "perpend/kernels/cuda/device/gradient_preparation.h"

namespace perpend {
namespace {

using device::QueryGradientParams;
using device::RepackParams;
using device::RowStrides;
using device::StatisticsParams;

constexpr int kThreads = 256;
constexpr int kChunk = 8;  // values that a thread reads at a time
constexpr float kLog2E = 1.44269504F;

__device__ float to_float(float x) { return x; }
__device__ float to_float(__half x) { return __half2float(x); }
__device__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
struct alignas(sizeof(T) == 4 ? 16 : kChunk * sizeof(T)) Chunk {
  T values[kChunk];
};

// The sequence whose statistics hold a row: the last that begins there or before.
__device__ std::int32_t sequence_of(const StatisticsParams& params, std::int64_t row) {
  std::int32_t first = 0;
  std::int32_t behind = params.num_sequences;
  while (behind - first > 1) {
    const std::int32_t middle = (first + behind) / 2;
    if (device::statistics_row(middle, params.q_indptr[middle]) <= row) {
      first = middle;
    } else {
      behind = middle;
    }
  }
  return first;
}

__device__ std::int64_t offset(const RowStrides& strides, std::int64_t batch, std::int64_t token,
                               std::int64_t head) {
  return batch * strides.batch + token * strides.token + head * strides.head;
}

// This thread's part of the product of two rows that kLanes threads share.
template <class T, int kLanes>
__device__ float part_of_product(const T* a, const T* b, int lane, int head_dim, bool is_aligned) {
  float sum = 0.0F;
  for (int column = lane * kChunk; column < head_dim; column += kLanes * kChunk) {
    if (is_aligned) {
      const auto left = *reinterpret_cast<const Chunk<T>*>(a + column);
      const auto right = *reinterpret_cast<const Chunk<T>*>(b + column);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        sum = fmaf(to_float(left.values[i]), to_float(right.values[i]), sum);
      }
    } else {
      for (int i = column; i < min(column + kChunk, head_dim); ++i) {
        sum = fmaf(to_float(a[i]), to_float(b[i]), sum);
      }
    }
  }
  return sum;
}

template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const __grid_constant__ StatisticsParams params) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kLanes;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + thread / kLanes;
  const auto head = static_cast<std::int64_t>(blockIdx.y);
  const std::int32_t sequence = sequence_of(params, row);
  const std::int32_t base = params.q_indptr[sequence];
  const std::int64_t query = row - device::statistics_row(sequence, base);
  const bool is_there = query < params.q_indptr[sequence + 1] - base;
  const std::int64_t batch = params.is_ragged ? 0 : sequence;
  const std::int64_t token = query + (params.is_ragged ? base : 0);
  float delta = 0.0F;
  if (is_there) {
    delta = part_of_product<T, kLanes>(
        static_cast<const T*>(params.o) + offset(params.o_strides, batch, token, head),
        static_cast<const T*>(params.d_o) + offset(params.d_o_strides, batch, token, head), lane,
        params.head_dim, params.is_aligned);
  }
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    delta += __shfl_xor_sync(0xffffffffU, delta, step);
  }
  if (lane != 0 || row >= params.statistics.rows) return;
  float lse = INFINITY;
  if (is_there) {
    lse = params.lse[offset(params.lse_strides, batch, token, head)];
    if (params.d_lse != nullptr) {
      delta -= params.d_lse[offset(params.d_lse_strides, batch, token, head)];
    }
    // A query without keys has no weights; with -inf they would be 2^inf.
    if (lse == -INFINITY) {
      lse = INFINITY;
      delta = 0.0F;
    }
  }
  const std::int64_t to = head * params.statistics.rows + row;
  params.statistics.negative_lse[to] = -lse * kLog2E;
  params.statistics.delta[to] = delta;
}

template <class To, class From>
__device__ std::uint16_t bits_of(From value) {
  if constexpr (sizeof(From) == 2) {
    return *reinterpret_cast<const std::uint16_t*>(&value);
  } else {
    const To rounded = static_cast<To>(value);
    return *reinterpret_cast<const std::uint16_t*>(&rounded);
  }
}

template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    repack_kernel(const __grid_constant__ RepackParams params) {
  const std::int64_t count = params.batch * params.tokens * params.heads * params.padded_dim;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    const std::int64_t column = i % params.padded_dim;
    const std::int64_t row = i / params.padded_dim;
    const std::int64_t head = row % params.heads;
    const std::int64_t token = row / params.heads % params.tokens;
    const std::int64_t batch = row / params.heads / params.tokens;
    const auto* from =
        static_cast<const From*>(params.from) + offset(params.strides, batch, token, head);
    params.to[i] = column < params.head_dim ? bits_of<To>(from[column]) : std::uint16_t{0};
  }
}

// The 16 columns that begin at `column`, of which the sums of a row have four chunks together.
struct SumColumns {
  float values[16];
};
__device__ SumColumns load_sums(const QueryGradientParams& params, std::int64_t head,
                                std::int64_t row, int column) {
  const int panel = column / params.panel_columns;
  const int in_panel = column % params.panel_columns;
  const std::int64_t index = params.sums.row_index(head, panel, row);
  const float* from = params.sums.data + index * params.panel_columns;
  const auto* chunks = reinterpret_cast<const float4*>(from + device::sum_place(index, in_panel));
  SumColumns result;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const float4 chunk = chunks[t];
    result.values[2 * t] = chunk.x * params.scale;
    result.values[2 * t + 1] = chunk.y * params.scale;
    result.values[8 + 2 * t] = chunk.z * params.scale;
    result.values[8 + 2 * t + 1] = chunk.w * params.scale;
  }
  return result;
}

// A thread takes 16 columns of a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    query_gradient_kernel(const __grid_constant__ QueryGradientParams params) {
  constexpr int kColumns = 16;
  const int pieces = (params.head_dim + kColumns - 1) / kColumns;
  const std::int64_t head = blockIdx.y;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = i / pieces;
  if (row >= params.sums.rows) return;
  const int first = static_cast<int>(i % pieces) * kColumns;
  const SumColumns sums = load_sums(params, head, row, first);
  T* to = static_cast<T*>(params.dq.data) +
          offset(params.dq.strides, row / params.q_len, row % params.q_len, head) + first;
  if (params.dq.is_aligned && first + kColumns <= params.head_dim) {
#pragma unroll
    for (int chunk = 0; chunk < kColumns; chunk += kChunk) {
      Chunk<T> values;
#pragma unroll
      for (int j = 0; j < kChunk; ++j) values.values[j] = static_cast<T>(sums.values[chunk + j]);
      *reinterpret_cast<Chunk<T>*>(to + chunk) = values;
    }
  } else {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      if (first + j < params.head_dim) to[j] = static_cast<T>(sums.values[j]);
    }
  }
}

template <int kLanes>
void launch_statistics(const StatisticsParams& params, DType dtype, cudaStream_t stream) {
  constexpr std::int64_t kRows = kThreads / kLanes;
  const dim3 grid(static_cast<unsigned>((params.statistics.rows + kRows - 1) / kRows),
                  static_cast<unsigned>(params.num_heads));
  switch (dtype) {
    case DType::kF32:
      return statistics_kernel<float, kLanes><<<grid, kThreads, 0, stream>>>(params);
    case DType::kF16:
      return statistics_kernel<__half, kLanes><<<grid, kThreads, 0, stream>>>(params);
    case DType::kBF16:
      return statistics_kernel<__nv_bfloat16, kLanes><<<grid, kThreads, 0, stream>>>(params);
    default:
      bug("attention: a type of d_o that supports() refuses");
  }
}

}  // namespace

void launch_statistics(const StatisticsParams& params, DType dtype, cudaStream_t stream) {
  // A chunk a thread: of narrow rows more are read at a time.
  if (params.head_dim <= 4 * kChunk) return launch_statistics<4>(params, dtype, stream);
  if (params.head_dim <= 8 * kChunk) return launch_statistics<8>(params, dtype, stream);
  return launch_statistics<16>(params, dtype, stream);
}

void launch_query_gradient(const QueryGradientParams& params, DType dtype, cudaStream_t stream) {
  constexpr std::int64_t kColumns = 16;
  const std::int64_t count = params.sums.rows * ((params.head_dim + kColumns - 1) / kColumns);
  const dim3 grid(static_cast<unsigned>((count + kThreads - 1) / kThreads),
                  static_cast<unsigned>(params.num_heads));
  switch (dtype) {
    case DType::kF32:
      return query_gradient_kernel<float><<<grid, kThreads, 0, stream>>>(params);
    case DType::kF16:
      return query_gradient_kernel<__half><<<grid, kThreads, 0, stream>>>(params);
    case DType::kBF16:
      return query_gradient_kernel<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(params);
    default:
      bug("attention: a type of dq that supports() refuses");
  }
}

void launch_repack(const RepackParams& params, DType from, DType to, cudaStream_t stream) {
  constexpr std::int64_t kMostCtas = 2048;
  const std::int64_t count = params.batch * params.tokens * params.heads * params.padded_dim;
  const auto grid = static_cast<unsigned>(std::min(kMostCtas, (count + kThreads - 1) / kThreads));
  const bool is_f32 = from == DType::kF32;
  if (is_f32 && to == DType::kF16) {
    repack_kernel<__half, float><<<grid, kThreads, 0, stream>>>(params);
  } else if (is_f32) {
    repack_kernel<__nv_bfloat16, float><<<grid, kThreads, 0, stream>>>(params);
  } else {
    repack_kernel<__half, __half><<<grid, kThreads, 0, stream>>>(params);  // bits as they are
  }
}

}  // namespace perpend
