#pragma once

#include <cstddef>

#include <immintrin.h>

#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace avx512 {

inline __m512 load_f16(const std::byte* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// The unsigned quants of a block of a panel, 4 columns of 16 rows a register.
template <PanelLayout kLayout>
inline void load_quants(const std::byte* block, __m512i (&quants)[8]) {
  if constexpr (panel::has_nibbles(kLayout)) {
    const __m512i mask = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m512i bytes = _mm512_loadu_si512(block + 64 * j);
      quants[j] = _mm512_and_si512(bytes, mask);
      quants[j + 4] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
    }
  } else {
    for (int j = 0; j < 8; ++j) quants[j] = _mm512_loadu_si512(block + 64 * j);
  }
}

}  // namespace avx512
}  // namespace perpend
