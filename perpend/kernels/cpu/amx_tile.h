#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <immintrin.h>

// AMX tile registers, all of 16 rows of 64 bytes; for sources compiled for that instruction set.

namespace perpend::amx {

// Rows of a tile register.
constexpr std::int64_t kTileRows = 16;

// A tile register. Written as assembly because GCC's intrinsics take register numbers as literals
// only and, in GCC 12, do not say that they read memory.
template <int kRegister>
struct Tile {
  static void zero() { asm volatile("tilezero %%tmm%c0" : : "i"(kRegister)); }
  static void load(const void* from, std::int64_t row_bytes) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0"
                 :
                 : "i"(kRegister), "r"(from), "r"(row_bytes)
                 : "memory");
  }
  static void store(void* to, std::int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)"
                 :
                 : "i"(kRegister), "r"(to), "r"(row_bytes)
                 : "memory");
  }
  // += kA (rows of pairs of bf16) times kB (2 rows of 16 columns a register row), in f32.
  template <int kA, int kB>
  static void add_bf16_product() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kRegister), "i"(kA), "i"(kB));
  }
  // += kSigned (rows of bytes) times kUnsigned (4 columns of 16 rows a register row).
  template <int kSigned, int kUnsigned>
  static void add_product() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(kRegister), "i"(kSigned), "i"(kUnsigned));
  }
};

struct alignas(64) TileShapes {
  TileShapes() {
    std::fill_n(rows.begin(), kNumRegisters, static_cast<std::uint8_t>(kTileRows));
    std::fill_n(columns.begin(), kNumRegisters, std::uint16_t{64});
  }

  static constexpr int kNumRegisters = 8;
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::array<std::uint8_t, 14> reserved{};
  std::array<std::uint16_t, 16> columns{};  // bytes a row
  std::array<std::uint8_t, 16> rows{};
};
static_assert(sizeof(TileShapes) == 64);

// Around all use of tile registers on one thread.
inline void acquire_tile_registers() {
  static const TileShapes shapes;
  _tile_loadconfig(&shapes);
}

inline void release_tile_registers() { _tile_release(); }

}  // namespace perpend::amx
