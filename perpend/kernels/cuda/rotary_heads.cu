#include <algorithm>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/rotary.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 256;
constexpr int kWide = 8;  // pairs of a thread where halves of heads are whole chunks

template <class T>
struct RotaryHeadsParams {
  T* qkv;            // [rows, num_q + 2 * num_kv, head_dim]
  T* q;              // [rows, num_q, head_dim]
  T* k;              // [rows, num_kv, head_dim]
  T* v;              // [rows, num_kv, head_dim]
  const float* cos;  // [rows, half]
  const float* sin;
  std::int64_t rows;
  int num_q, num_kv, head_dim, half;
  bool interleaved, joins;

  __device__ int num_heads() const { return num_q + 2 * num_kv; }
  // The head of q, k or v that stands at `head` of qkv.
  __device__ T* apart(std::int64_t row, int head) const {
    if (head < num_q) return q + (row * num_q + head) * head_dim;
    head -= num_q;
    if (head < num_kv) return k + (row * num_kv + head) * head_dim;
    return v + (row * num_kv + head - num_kv) * head_dim;
  }
};

// Rows along y of a CTA, their heads and pairs along x.
template <class T, bool kIsWide>
__global__ void rotary_heads_kernel(RotaryHeadsParams<T> p) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= p.rows) return;
  const int items = kIsWide ? p.half / kWide : p.head_dim - p.half;  // of a head
  for (int i = static_cast<int>(threadIdx.x); i < p.num_heads() * items;
       i += static_cast<int>(blockDim.x)) {
    const int head = i / items;
    const int item = i % items;
    T* whole = p.qkv + (row * p.num_heads() + head) * p.head_dim;
    T* apart = p.apart(row, head);
    const T* from = p.joins ? apart : whole;
    T* to = p.joins ? whole : apart;
    device::RowAngles angles;
    if (head < p.num_q + p.num_kv) {
      angles = {p.cos + row * p.half, p.sin + row * p.half, p.joins ? -1.0F : 1.0F};
    }
    if constexpr (kIsWide) {
      device::turn_halves<kWide>(angles, p.half, item * kWide, from, to);
    } else {
      device::turn_item(angles, p.half, p.interleaved, item, from, to);
    }
  }
}

bool is_aligned(const TensorView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
}

bool is_wide(const RotaryHeadsArgs& args) {
  const std::int64_t half = args.cos.size(1);
  return args.layout == RotaryLayout::kHalfSplit && 2 * half == args.qkv.size(2) &&
         half % kWide == 0 && is_aligned(args.qkv) && is_aligned(args.q) && is_aligned(args.k) &&
         is_aligned(args.v) && is_aligned(args.cos) && is_aligned(args.sin);
}

}  // namespace

void cuda_rotary_heads(const RotaryHeadsArgs& args, Stream stream) {
  check_rotary_heads(args);
  const std::int64_t rows = args.qkv.size(0);
  if (rows == 0) return;
  const std::int64_t half = args.cos.size(1);
  const bool wide = is_wide(args);
  const std::int64_t items = args.qkv.size(1) * (wide ? half / kWide : args.qkv.size(2) - half);
  const std::int64_t threads = std::min(kMostThreads, round_up(items, std::int64_t{32}));
  const std::int64_t rows_of_cta = std::max<std::int64_t>(1, kMostThreads / threads);
  const Launch launch("rotary_heads", args.qkv.device, stream);
  dispatch_element(args.qkv.dtype, [&]<class T>(Element<T>) {
    const RotaryHeadsParams<T> params{args.qkv.as<T>(),
                                      args.q.as<T>(),
                                      args.k.as<T>(),
                                      args.v.as<T>(),
                                      args.cos.as<const float>(),
                                      args.sin.as<const float>(),
                                      rows,
                                      static_cast<int>(args.q.size(1)),
                                      static_cast<int>(args.k.size(1)),
                                      static_cast<int>(args.qkv.size(2)),
                                      static_cast<int>(half),
                                      args.layout == RotaryLayout::kInterleaved,
                                      args.joins};
    const auto kernel = wide ? rotary_heads_kernel<T, true> : rotary_heads_kernel<T, false>;
    kernel<<<static_cast<unsigned>(ceil_div(rows, rows_of_cta)),
             dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows_of_cta)), 0,
             launch.stream()>>>(params);
  });
  launch.check_launched();
}

}  // namespace perpend
