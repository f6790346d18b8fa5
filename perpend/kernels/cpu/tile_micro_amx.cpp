#include <utility>

#include "perpend/kernels/cpu/amx_tile.h"
#include "perpend/kernels/cpu/bf16_tiles.h"

namespace perpend {
namespace bf16 {
namespace {

// Registers: four quarters of the sums, two halves each of a left and a right block.
constexpr int kLeft = 4;
constexpr int kRight = 6;
constexpr int kLeftBytes = 64;    // a row
constexpr int kRightBytes = 128;  // a row of pairs
constexpr int kSumsBytes = 128;   // a row

// Where a quarter of the sums lies.
constexpr int quarter(int index) { return index / 2 * 16 * 32 + index % 2 * 16; }

// Ends the former use of a quarter's register and begins the next.
template <int kQuarter>
void change_sums(float* former, bool add, const float* next) {
  using Sums = amx::Tile<kQuarter>;
  if (former != nullptr) Sums::store(former + quarter(kQuarter), kSumsBytes);
  if (add) {
    Sums::load(next + quarter(kQuarter), kSumsBytes);
  } else {
    Sums::zero();
  }
}

template <int kQuarter>
void add_product() {
  amx::Tile<kQuarter>::template add_bf16_product<kLeft + kQuarter / 2, kRight + kQuarter % 2>();
}

void load_left(const std::byte* block) {
  amx::Tile<kLeft>::load(block, kLeftBytes);
  amx::Tile<kLeft + 1>::load(block + 16 * kLeftBytes, kLeftBytes);
}

void load_right(const std::byte* block) {
  amx::Tile<kRight>::load(block, kRightBytes);
  amx::Tile<kRight + 1>::load(block + 64, kRightBytes);
}

template <int... kQuarters>
void store_sums(float* sums, std::integer_sequence<int, kQuarters...> /*quarters*/) {
  (amx::Tile<kQuarters>::store(sums + quarter(kQuarters), kSumsBytes), ...);
}

struct AmxProducts {
  static constexpr bool kOverlaps = true;
  static constexpr int kTicksOfABlock = 4;  // one a tile product

  template <class Beside>
  [[gnu::always_inline]] static void run(std::span<const BlockProduct> products, bool add,
                                         Beside beside) {
    constexpr auto kQuarters = std::make_integer_sequence<int, 4>{};
    float* former = nullptr;
    for (const BlockProduct& product : products) {
      add_blocks(product, add, former, beside, kQuarters);
      former = product.sums;
    }
    if (former != nullptr) store_sums(former, kQuarters);
  }

 private:
  // The sums of the former product are stored one quarter at a time between the first steps of the
  // next: a store waits for the end of its quarter's chain, and the unit has the others meanwhile.
  template <class Beside, int... kQuarters>
  [[gnu::always_inline]] static void add_blocks(
      const BlockProduct& product, bool add, float* former, Beside& beside,
      std::integer_sequence<int, kQuarters...> /*quarters*/) {
    const std::byte* left = product.left[0];
    const std::byte* right = product.right[0];
    load_right(right);
    load_left(left);
    ((change_sums<kQuarters>(former, add, product.sums), add_product<kQuarters>(), beside()), ...);
    for (std::size_t i = 1; i < product.left.size(); ++i) {
      if (product.right[i] != right) load_right(right = product.right[i]);
      if (product.left[i] != left) load_left(left = product.left[i]);
      ((add_product<kQuarters>(), beside()), ...);
    }
  }
};

}  // namespace
}  // namespace bf16

const TileMicro<float>& tile_micro_amx() {
  static const TileMicro<float> micro = bf16::make_tile_micro<bf16::AmxProducts, 1>(
      amx::acquire_tile_registers, amx::release_tile_registers);
  return micro;
}

const TileMicro<float>& tile_micro_amx_f32() {
  static const TileMicro<float> micro = bf16::make_tile_micro<bf16::AmxProducts, 3>(
      amx::acquire_tile_registers, amx::release_tile_registers);
  return micro;
}

}  // namespace perpend
