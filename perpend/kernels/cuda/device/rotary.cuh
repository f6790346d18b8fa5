#pragma once

#include "perpend/kernels/cuda/device/vector_io.cuh"

// The rotary embedding of one head by one thread: some of its pairs. `to` may be `from`.

namespace perpend::device {

// The angles of a row; without cosines nothing turns.
struct RowAngles {
  const float* cos = nullptr;  // [half]
  const float* sin = nullptr;
  float sign = 1.0F;  // -1 turns back
};

// Pairs [first, first + kCount), whose members are half a head apart.
template <int kCount, class In, class Out>
__device__ __forceinline__ void turn_halves(const RowAngles& angles, int half, int first,
                                            const In* from, Out* to) {
  Values<kCount> a = load_values<kCount>(from + first);
  Values<kCount> b = load_values<kCount>(from + first + half);
  if (angles.cos != nullptr) {
    const auto cos = load_values<kCount>(angles.cos + first);
    const auto sin = load_values<kCount>(angles.sin + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float s = angles.sign * sin.v[i];
      const float turned = a.v[i] * cos.v[i] - b.v[i] * s;
      b.v[i] = a.v[i] * s + b.v[i] * cos.v[i];
      a.v[i] = turned;
    }
  }
  store_values(to + first, a);
  store_values(to + first + half, b);
}

// Pair `item`, or with half <= item < head_dim - half a value behind the pairs, which is kept.
template <class In, class Out>
__device__ __forceinline__ void turn_item(const RowAngles& angles, int half, bool interleaved,
                                          int item, const In* from, Out* to) {
  if (item >= half) {
    to[half + item] = static_cast<Out>(static_cast<float>(from[half + item]));
    return;
  }
  const int first = interleaved ? 2 * item : item;
  const int second = interleaved ? 2 * item + 1 : item + half;
  const float a = static_cast<float>(from[first]);
  const float b = static_cast<float>(from[second]);
  const float c = angles.cos != nullptr ? angles.cos[item] : 1.0F;
  const float s = angles.cos != nullptr ? angles.sign * angles.sin[item] : 0.0F;
  to[first] = static_cast<Out>(a * c - b * s);
  to[second] = static_cast<Out>(a * s + b * c);
}

}  // namespace perpend::device
