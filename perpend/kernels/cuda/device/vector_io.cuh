#pragma once

#include <type_traits>

// Neighbouring values as f32, in loads and stores of up to 16 bytes.

namespace perpend::device {

template <int kCount>
struct Values {
  float v[kCount];
};

template <int kCount, class T>
struct VectorIo {
  static constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
  using Word = std::conditional_t<
      kBytes % 16 == 0, uint4,
      std::conditional_t<kBytes == 8, uint2,
                         std::conditional_t<kBytes == 4, unsigned, unsigned short>>>;
  static constexpr int kWords = kBytes / static_cast<int>(sizeof(Word));

  union Bits {
    __device__ Bits() {}
    Word words[kWords];
    T values[kCount];
  };
};

// `from` at a multiple of the bytes that are loaded at once.
template <int kCount, class T>
__device__ __forceinline__ Values<kCount> load_values(const T* from) {
  using Io = VectorIo<kCount, T>;
  typename Io::Bits bits;
#pragma unroll
  for (int i = 0; i < Io::kWords; ++i) {
    bits.words[i] = reinterpret_cast<const typename Io::Word*>(from)[i];
  }
  Values<kCount> result;
#pragma unroll
  for (int i = 0; i < kCount; ++i) result.v[i] = static_cast<float>(bits.values[i]);
  return result;
}

template <int kCount, class T>
__device__ __forceinline__ void store_values(T* to, const Values<kCount>& values) {
  using Io = VectorIo<kCount, T>;
  typename Io::Bits bits;
#pragma unroll
  for (int i = 0; i < kCount; ++i) bits.values[i] = static_cast<T>(values.v[i]);
#pragma unroll
  for (int i = 0; i < Io::kWords; ++i) {
    reinterpret_cast<typename Io::Word*>(to)[i] = bits.words[i];
  }
}

}  // namespace perpend::device
