#include <algorithm>
#include <cassert>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/launch_order.cuh"
#include "perpend/kernels/cuda/device/rotary.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch_behind.cuh"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 256;
constexpr int kWide = 8;  // pairs of a thread where halves of heads are whole chunks

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
  HeadRows<In> kept;           // no heads where none are kept
  const std::int64_t* places;  // [rows]
  Pages<Stored> k_pages, v_pages;
  const std::int32_t* positions;  // [rows]
  const std::int64_t* slots;      // [rows]
  const float* cos;               // [max_position, half]
  const float* sin;
  std::int64_t cos_stride, sin_stride;
  std::int64_t num_rows, max_position, num_slots;
  int half, head_dim;
  bool interleaved;
};

// Rows along y of a CTA, their heads and pairs along x: the heads of q, then of k, then of v.
template <class In, class Stored, bool kIsWide>
__global__ void rotary_cache_kernel(RotaryParams<In, Stored> p) {
  device::let_next_launch_start();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= p.num_rows) return;
  device::wait_for_launch_before();
  const std::int64_t position = p.positions[row];
  assert(position >= 0 && position < p.max_position);
  const device::RowAngles angles{p.cos + position * p.cos_stride, p.sin + position * p.sin_stride};
  const std::int64_t slot = p.slots != nullptr ? p.slots[row] : 0;
  assert(p.slots == nullptr || (slot >= 0 && slot < p.num_slots));
  const auto turn = [&](const device::RowAngles& by, int item, const In* from, auto* to) {
    if constexpr (kIsWide) {
      device::turn_halves<kWide>(by, p.half, item * kWide, from, to);
    } else {
      device::turn_item(by, p.half, p.interleaved, item, from, to);
    }
  };
  const int items = kIsWide ? p.half / kWide : p.head_dim - p.half;  // of a head
  const int num_heads = p.q.num_heads + p.k.num_heads + p.v.num_heads;
  for (int i = static_cast<int>(threadIdx.x); i < num_heads * items;
       i += static_cast<int>(blockDim.x)) {
    const int item = i % items;
    int head = i / items;
    if (head < p.q.num_heads) {
      In* q = p.q.head(row, head);
      if (p.kept.num_heads > 0) turn(angles, item, q, p.kept.head(p.places[row], head));
      turn(angles, item, q, q);
      continue;
    }
    head -= p.q.num_heads;
    if (head < p.k.num_heads) {
      turn(angles, item, p.k.head(row, head), p.k_pages.head(slot, head));
      continue;
    }
    head -= p.k.num_heads;
    turn({}, item, p.v.head(row, head), p.v_pages.head(slot, head));
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

// Whether every chunk of `view` that a thread takes begins at a multiple of 16 bytes.
bool is_aligned(const TensorView& view) {
  if (reinterpret_cast<std::uintptr_t>(view.data) % 16 != 0) return false;
  for (int axis = 0; axis + 1 < view.num_axes(); ++axis) {
    if (view.stride(axis) % kWide != 0) return false;
  }
  return true;
}

bool is_wide(const RotaryCacheArgs& args) {
  const std::int64_t half = args.cos.size(1);
  return args.layout == RotaryLayout::kHalfSplit && 2 * half == args.q.size(2) &&
         half % kWide == 0 && is_aligned(args.q) && is_aligned(args.k) && is_aligned(args.v) &&
         is_aligned(args.kept) && is_aligned(args.cos) && is_aligned(args.sin) &&
         is_aligned(args.k_pages) && is_aligned(args.v_pages);
}

template <class In, class Stored>
void launch_rotary_cache(const RotaryCacheArgs& args, const Launch& launch) {
  const RotaryParams<In, Stored> params{
      head_rows<In>(args.q),
      head_rows<In>(args.k),
      head_rows<In>(args.v),
      head_rows<In>(args.kept),
      args.places ? args.places.as<const std::int64_t>() : nullptr,
      pages_of<Stored>(args.k_pages),
      pages_of<Stored>(args.v_pages),
      args.positions.as<const std::int32_t>(),
      args.slots.as<const std::int64_t>(),
      args.cos.as<const float>(),
      args.sin.as<const float>(),
      args.cos.stride(0),
      args.sin.stride(0),
      args.q.size(0),
      args.cos.size(0),
      args.k ? args.k_pages.size(0) * args.k_pages.size(1) : 0,
      static_cast<int>(args.cos.size(1)),
      static_cast<int>(args.q.size(2)),
      args.layout == RotaryLayout::kInterleaved};
  const std::int64_t heads = args.q.size(1) + (args.k ? 2 * args.k.size(1) : 0);
  const bool wide = is_wide(args);
  const std::int64_t items = heads * (wide ? params.half / kWide : params.head_dim - params.half);
  const std::int64_t threads = std::min(kMostThreads, round_up(items, std::int64_t{32}));
  const std::int64_t rows = std::max<std::int64_t>(1, kMostThreads / threads);
  const auto kernel =
      wide ? rotary_cache_kernel<In, Stored, true> : rotary_cache_kernel<In, Stored, false>;
  launch_behind(launch.behind(), kernel,
                {dim3(static_cast<unsigned>(ceil_div(args.q.size(0), rows))),
                 dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows))},
                params);
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
