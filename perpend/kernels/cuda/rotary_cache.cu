#include <cassert>

#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kThreads = 64;

template <class In>
struct HeadRows {
  In* data;  // [rows, heads, head_dim]
  std::int64_t row_stride, head_stride;
  int num_heads;

  __device__ In* head(std::int64_t row, int head) const {
    return data + row * row_stride + head * head_stride;
  }
};

template <class Stored>
struct Pages {
  Stored* data;  // [num_pages, page_size, num_kv_heads, head_dim]
  std::int64_t page_stride, row_stride, head_stride;
  std::int64_t page_size;

  __device__ Stored* head(std::int64_t slot, int head) const {
    return data + slot / page_size * page_stride + slot % page_size * row_stride +
           head * head_stride;
  }
};

template <class In, class Stored>
struct RotaryParams {
  HeadRows<In> q, k, v;
  Pages<Stored> k_pages, v_pages;
  const std::int32_t* positions;  // [rows]
  const std::int64_t* slots;      // [rows]
  const float* cos;               // [max_position, half]
  const float* sin;
  std::int64_t cos_stride, sin_stride;
  std::int64_t max_position, num_slots;
  int half, head_dim;
  bool interleaved;
};

// to = from turned by one row of the tables; a thread owns whole pairs, so to may be from.
template <class In, class Stored, class Out>
__device__ void rotate(const RotaryParams<In, Stored>& p, std::int64_t position, const In* from,
                       Out* to) {
  const float* cos = p.cos + position * p.cos_stride;
  const float* sin = p.sin + position * p.sin_stride;
  for (int i = static_cast<int>(threadIdx.x); i < p.half; i += kThreads) {
    const int first = p.interleaved ? 2 * i : i;
    const int second = p.interleaved ? 2 * i + 1 : i + p.half;
    const float a = static_cast<float>(from[first]);
    const float b = static_cast<float>(from[second]);
    to[first] = static_cast<Out>(a * cos[i] - b * sin[i]);
    to[second] = static_cast<Out>(a * sin[i] + b * cos[i]);
  }
  for (int i = 2 * p.half + static_cast<int>(threadIdx.x); i < p.head_dim; i += kThreads) {
    to[i] = static_cast<Out>(static_cast<float>(from[i]));
  }
}

// CTAs: rows across x; across y the heads of q, then of k, then of v.
template <class In, class Stored>
__global__ void rotary_cache_kernel(RotaryParams<In, Stored> p) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = p.positions[row];
  assert(position >= 0 && position < p.max_position);
  int head = static_cast<int>(blockIdx.y);
  if (head < p.q.num_heads) {
    In* q = p.q.head(row, head);
    rotate(p, position, q, q);
    return;
  }
  const std::int64_t slot = p.slots[row];
  assert(slot >= 0 && slot < p.num_slots);
  head -= p.q.num_heads;
  if (head < p.k.num_heads) {
    rotate(p, position, p.k.head(row, head), p.k_pages.head(slot, head));
    return;
  }
  head -= p.k.num_heads;
  const In* v = p.v.head(row, head);
  Stored* to = p.v_pages.head(slot, head);
  for (int i = static_cast<int>(threadIdx.x); i < p.head_dim; i += kThreads) {
    to[i] = static_cast<Stored>(static_cast<float>(v[i]));
  }
}

template <class In>
HeadRows<In> head_rows(const TensorView& view) {
  if (!view) return {};
  return {view.as<In>(), view.stride(0), view.stride(1), static_cast<int>(view.size(1))};
}

template <class Stored>
Pages<Stored> pages_of(const TensorView& view) {
  if (!view) return {};
  return {view.as<Stored>(), view.stride(0), view.stride(1), view.stride(2), view.size(1)};
}

template <class In, class Stored>
void launch_rotary_cache(const RotaryCacheArgs& args, const Launch& launch) {
  const RotaryParams<In, Stored> params{head_rows<In>(args.q),
                                        head_rows<In>(args.k),
                                        head_rows<In>(args.v),
                                        pages_of<Stored>(args.k_pages),
                                        pages_of<Stored>(args.v_pages),
                                        args.positions.as<const std::int32_t>(),
                                        args.slots.as<const std::int64_t>(),
                                        args.cos.as<const float>(),
                                        args.sin.as<const float>(),
                                        args.cos.stride(0),
                                        args.sin.stride(0),
                                        args.cos.size(0),
                                        args.k ? args.k_pages.size(0) * args.k_pages.size(1) : 0,
                                        static_cast<int>(args.cos.size(1)),
                                        static_cast<int>(args.q.size(2)),
                                        args.layout == RotaryLayout::kInterleaved};
  const std::int64_t heads = args.q.size(1) + (args.k ? 2 * args.k.size(1) : 0);
  const dim3 grid(static_cast<unsigned>(args.q.size(0)), static_cast<unsigned>(heads));
  rotary_cache_kernel<<<grid, kThreads, 0, launch.stream()>>>(params);
  launch.check_launched();
}

}  // namespace

void cuda_rotary_cache(const RotaryCacheArgs& args, Stream stream) {
  check_rotary_cache(args);
  if (args.q.size(0) == 0) return;
  const Launch launch("rotary", args.q.device, stream);
  // Queries alone are in the type that their keys would be stored in, or in f32.
  const DType stored = args.k ? args.k_pages.dtype : args.q.dtype;
  dispatch_element(stored, [&]<class Stored>(Element<Stored>) {
    if (args.q.dtype == DType::kF32) {
      launch_rotary_cache<float, Stored>(args, launch);
    } else {
      launch_rotary_cache<Stored, Stored>(args, launch);
    }
  });
}

}  // namespace perpend
