#include <utility>

#include "perpend/kernels/cpu/amx_tile.h"
#include "perpend/kernels/cpu/bf16_product.h"

namespace perpend::bf16 {
namespace {

// Registers: four quarters of the sums, two halves each of a left and a right block.
constexpr int kLeft = 4;
constexpr int kRight = 6;
constexpr int kLeftBytes = 64;    // a row
constexpr int kRightBytes = 128;  // a row of pairs
constexpr int kSumsBytes = 128;   // a row

// Where a quarter of the sums lies.
constexpr int quarter(int index) { return index / 2 * 16 * 32 + index % 2 * 16; }

template <int... kQuarters>
void load_sums(const float* sums, std::integer_sequence<int, kQuarters...> /*quarters*/) {
  (amx::Tile<kQuarters>::load(sums + quarter(kQuarters), kSumsBytes), ...);
}
template <int... kQuarters>
void zero_sums(std::integer_sequence<int, kQuarters...> /*quarters*/) {
  (amx::Tile<kQuarters>::zero(), ...);
}
template <int... kQuarters>
void store_sums(float* sums, std::integer_sequence<int, kQuarters...> /*quarters*/) {
  (amx::Tile<kQuarters>::store(sums + quarter(kQuarters), kSumsBytes), ...);
}
template <int... kQuarters>
void add_products(std::integer_sequence<int, kQuarters...> /*quarters*/) {
  (amx::Tile<kQuarters>::template add_bf16_product<kLeft + kQuarters / 2, kRight + kQuarters % 2>(),
   ...);
}

}  // namespace

void product_amx(const Blocks& blocks, bool add, float* sums) {
  constexpr auto kQuarters = std::make_integer_sequence<int, 4>{};
  if (add) {
    load_sums(sums, kQuarters);
  } else {
    zero_sums(kQuarters);
  }
  const std::byte* left = nullptr;
  const std::byte* right = nullptr;
  for (std::size_t i = 0; i < blocks.count; ++i) {
    if (blocks.right[i] != right) {
      right = blocks.right[i];
      amx::Tile<kRight>::load(right, kRightBytes);
      amx::Tile<kRight + 1>::load(right + 64, kRightBytes);
    }
    if (blocks.left[i] != left) {
      left = blocks.left[i];
      amx::Tile<kLeft>::load(left, kLeftBytes);
      amx::Tile<kLeft + 1>::load(left + 16 * kLeftBytes, kLeftBytes);
    }
    add_products(kQuarters);
  }
  store_sums(sums, kQuarters);
}

void acquire_amx() { amx::acquire_tile_registers(); }
void release_amx() { amx::release_tile_registers(); }

}  // namespace perpend::bf16
