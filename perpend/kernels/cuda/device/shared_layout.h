#pragma once

#include <cstdint>

// How tiles of 16-bit values lie in shared memory, for the tensor-memory loads that write them and
// the warpgroup products that read them: panels of 64 columns, one below the other, each row of a
// panel 128 bytes, rows in 128-byte swizzle. Constants of the PTX ISA, "Matrix-Descriptor Format"
// and "Swizzling Modes".

namespace perpend::device {

constexpr int kRowBytes = 128;  // of a panel
constexpr int kAtomRows = 8;    // rows after which the swizzle repeats
constexpr int kAtomBytes = kAtomRows * kRowBytes;
constexpr int kStepDepth = 16;  // inner size of one product instruction
constexpr int kStepBytes = kStepDepth * 2;

constexpr int num_panels(int columns) { return (columns + 63) / 64; }
constexpr int tile_bytes(int rows, int columns) { return num_panels(columns) * rows * kRowBytes; }

// Where the 128-byte swizzle puts byte `offset` of a tile that begins at a multiple of 1024: the
// 16-byte chunk within a row is exchanged by the row's number in its atom.
constexpr std::uint32_t swizzled(std::uint32_t offset) { return offset ^ (offset >> 7 & 7U) << 4; }

// Offset of a value in a tile of `rows` rows.
constexpr std::uint32_t tile_offset(int row, int column, int rows) {
  const int panel = column / 64;
  return swizzled(static_cast<std::uint32_t>((panel * rows + row) * kRowBytes + column % 64 * 2));
}

// Descriptors are 64 bits: the low word has the address and the leading offset, the high word,
// which no step changes, the stride offset and the swizzle; all addresses and offsets in units
// of 16.
constexpr std::uint32_t descriptor_low(std::uint32_t address, std::uint32_t leading_bytes) {
  return address >> 4 | (leading_bytes >> 4) << 16;
}
constexpr std::uint32_t kSwizzle128 = 1U << 30;
constexpr std::uint32_t descriptor_high(std::uint32_t stride_bytes) {
  return stride_bytes >> 4 | kSwizzle128;
}

// Rows of a tile are rows (or columns) of the product and its columns are summed over (Q, K): the
// leading offset has no meaning, eight rows to the next are an atom. The low word of step `step`
// along the columns is that of step 0 plus this.
constexpr std::uint32_t column_step(int step, int rows) {
  const int panel = step / 4;
  return static_cast<std::uint32_t>(panel * rows * kRowBytes + step % 4 * kStepBytes) >> 4;
}
constexpr std::uint32_t kColumnLeading = 16;

// Rows are summed over and the columns are those of the product (V): panels are the leading offset
// apart. Likewise for a step along the rows.
constexpr std::uint32_t row_step(int step) {
  return static_cast<std::uint32_t>(step * kStepDepth * kRowBytes) >> 4;
}
constexpr std::uint32_t row_leading(int rows) {
  return static_cast<std::uint32_t>(rows * kRowBytes);
}

}  // namespace perpend::device
