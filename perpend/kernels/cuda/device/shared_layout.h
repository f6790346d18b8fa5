#pragma once

#include <cstdint>

// How tiles of 16-bit values lie in shared memory, for the tensor-memory loads that write them and
// the warpgroup products that read them: panels of 64 columns, one below the other, each row of a
// panel 128 bytes, rows in 128-byte swizzle; or, up to 32 columns, one panel of rows of 64 bytes in
// 64-byte swizzle. Constants of the PTX ISA, "Matrix-Descriptor Format" and "Swizzling Modes".

namespace perpend::device {

constexpr int kTileAlignment = 1024;  // after which every swizzle repeats
constexpr int kAtomRows = 8;          // rows after which the next atom begins
constexpr int kStepDepth = 16;        // inner size of one product instruction
constexpr int kStepBytes = kStepDepth * 2;

constexpr int row_bytes(int head_dim) { return head_dim <= 32 ? 64 : 128; }  // of a panel

// Where the swizzle puts byte `offset` of a tile that begins at a multiple of 1024: the 16-byte
// chunk within a row is exchanged by the number of the 128 bytes that hold it.
constexpr std::uint32_t swizzled(std::uint32_t offset, int row_bytes) {
  const auto chunks = static_cast<std::uint32_t>(row_bytes / 16);
  return offset ^ (offset >> 7 & (chunks - 1)) << 4;
}

// Descriptors are 64 bits: the low word has the address and the leading offset, the high word,
// which no step changes, the stride offset and the swizzle; all addresses and offsets in units
// of 16.
constexpr std::uint32_t descriptor_low(std::uint32_t address, std::uint32_t leading_bytes) {
  return address >> 4 | (leading_bytes >> 4) << 16;
}
constexpr std::uint32_t kSwizzle128 = 1U << 30;
constexpr std::uint32_t kSwizzle64 = 2U << 30;

// Tiles with rows of kHeadDim values.
template <int kHeadDim>
struct TileLayout {
  static constexpr int kRowBytes = row_bytes(kHeadDim);
  static constexpr int kPanelColumns = kRowBytes / 2;
  static constexpr int kPanels = (kHeadDim + kPanelColumns - 1) / kPanelColumns;
  static constexpr std::uint32_t kDescriptorHigh = static_cast<std::uint32_t>(kAtomRows *
                                                                              kRowBytes) >>
                                                       4 |
                                                   (kRowBytes == 128 ? kSwizzle128 : kSwizzle64);

  static constexpr int bytes(int rows) { return kPanels * rows * kRowBytes; }

  // Offset of a value in a tile of `rows` rows.
  static constexpr std::uint32_t offset(int row, int column, int rows) {
    const int panel = column / kPanelColumns;
    return swizzled(
        static_cast<std::uint32_t>((panel * rows + row) * kRowBytes + column % kPanelColumns * 2),
        kRowBytes);
  }

  // Rows of a tile are rows (or columns) of the product and its columns are summed over (Q, K): the
  // leading offset has no meaning, eight rows to the next are an atom. The low word of step `step`
  // along the columns is that of step 0 plus this.
  static constexpr std::uint32_t column_step(int step, int rows) {
    constexpr int kSteps = kPanelColumns / kStepDepth;
    const int panel = step / kSteps;
    return static_cast<std::uint32_t>(panel * rows * kRowBytes + step % kSteps * kStepBytes) >> 4;
  }
  static constexpr std::uint32_t kColumnLeading = 16;

  // Rows are summed over and the columns are those of the product (V): panels are the leading
  // offset apart. Likewise for a step along the rows.
  static constexpr std::uint32_t row_step(int step) {
    return static_cast<std::uint32_t>(step * kStepDepth * kRowBytes) >> 4;
  }
  static constexpr std::uint32_t row_leading(int rows) {
    return static_cast<std::uint32_t>(rows * kRowBytes);
  }
};

}  // namespace perpend::device
