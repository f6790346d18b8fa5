#include "perpend/kernels/cpu/bf16_tiles.h"

namespace perpend {
namespace bf16 {
namespace {

constexpr int kRows = 8;  // rows that stay in registers
constexpr int kVecs = 2;  // vectors of each

void product_rows(const BlockProduct& product, bool add, int row) {
  float* sums = product.sums + row * 32;
  __m512 sum[kRows][kVecs];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      sum[i][v] = add ? _mm512_load_ps(sums + i * 32 + v * 16) : _mm512_setzero_ps();
    }
  }
  for (std::size_t block = 0; block < product.left.size(); ++block) {
    const std::byte* left = product.left[block] + row * 64;
    const std::byte* right = product.right[block];
    for (int pair = 0; pair < 16; ++pair, left += 4, right += 128) {
      __m512bh columns[kVecs];
      for (int v = 0; v < kVecs; ++v) {
        columns[v] = reinterpret_cast<__m512bh>(_mm512_load_si512(right + v * 64));
      }
      for (int i = 0; i < kRows; ++i) {
        std::int32_t values = 0;
        std::memcpy(&values, left + i * 64, sizeof(values));
        const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(values));
        for (int v = 0; v < kVecs; ++v) {
          sum[i][v] = _mm512_dpbf16_ps(sum[i][v], both, columns[v]);
        }
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) _mm512_store_ps(sums + i * 32 + v * 16, sum[i][v]);
  }
}

struct Avx512Products {
  static constexpr bool kOverlaps = false;

  template <class Beside>
  static void run(std::span<const BlockProduct> products, bool add, Beside /*beside*/) {
    for (const BlockProduct& product : products) {
      for (int row = 0; row < 32; row += kRows) product_rows(product, add, row);
    }
  }
};

}  // namespace
}  // namespace bf16

const TileMicro<float>& tile_micro_avx512bf16() {
  static const TileMicro<float> micro =
      bf16::make_tile_micro<bf16::Avx512Products, 1>(nullptr, nullptr);
  return micro;
}

}  // namespace perpend
