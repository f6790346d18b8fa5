#include "perpend/kernels/cpu/linear_pack.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "perpend/core/half.h"
#include "perpend/formats/block_layouts.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace {

using panel::kBlock;
using panel::kRows;

// The layout that holds one source without loss (K formats: f16, 11 bits for their at most 6).
PanelLayout layout_of(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0:
      return PanelLayout::kNibbles;
    case BlockFormat::kQ4_1:
      return PanelLayout::kNibblesMin;
    case BlockFormat::kQ5_0:
    case BlockFormat::kQ8_0:
      return PanelLayout::kBytes;
    case BlockFormat::kQ5_1:
      return PanelLayout::kBytesMin;
    case BlockFormat::kF32:
      return PanelLayout::kF32;
    case BlockFormat::kBF16:
      return PanelLayout::kBF16;
    case BlockFormat::kF16:
    case BlockFormat::kQ4_K:
    case BlockFormat::kQ5_K:
    case BlockFormat::kQ6_K:
      return PanelLayout::kF16;
  }
  bug("layout_of: unknown format");
}

PanelLayout wider(PanelLayout a, PanelLayout b) {
  if (a == b) return a;
  if (a > b) std::swap(a, b);
  if (panel::is_integer(b) && panel::has_min(a) == panel::has_min(b)) return b;
  // Integers beside floats: f16 holds them; f32 and bf16 together need f32.
  return panel::is_integer(a) && b != PanelLayout::kF32 ? PanelLayout::kF16 : PanelLayout::kF32;
}

PanelLayout common_layout(std::span<const WeightSource> sources, LinearMode mode) {
  if (mode == LinearMode::kF32) return PanelLayout::kF32;
  PanelLayout layout = layout_of(sources.front().format);
  for (const WeightSource& source : sources) layout = wider(layout, layout_of(source.format));
  return layout;
}

void check_sources(std::span<const WeightSource> sources) {
  check(!sources.empty(), "linear: no weight to pack");
  for (const WeightSource& source : sources) {
    check_eq(source.in_features, sources.front().in_features,
             "linear: weights of one product need equal in_features");
    check(source.in_features > 0 && source.out_features > 0,
          "linear: in_features and out_features must be positive");
    row_bytes(source.format, source.in_features);
  }
}

// A block of 32 values of one row, as unsigned quants of a byte-per-quant layout.
struct UnpackedBlock {
  std::array<std::uint8_t, kBlock> quants;
  std::uint16_t scale = 0;
  std::uint16_t min = 0;
};

template <class Block>
UnpackedBlock unpack_nibbles(const std::byte* from) {
  Block block;
  std::memcpy(&block, from, sizeof(block));
  UnpackedBlock result;
  std::uint32_t high_bits = 0;
  if constexpr (requires { block.high_bits; }) {
    std::memcpy(&high_bits, block.high_bits.data(), 4);
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    const unsigned byte = block.nibbles[i % 16];
    result.quants[i] =
        static_cast<std::uint8_t>((i < 16 ? byte & 15U : byte >> 4) | (high_bits >> i & 1U) << 4);
  }
  result.scale = block.scale;
  if constexpr (requires { block.min; }) result.min = block.min;
  return result;
}

// Shifts the midpoint of symmetric quants to `zero_point`.
UnpackedBlock recentred(UnpackedBlock block, int midpoint, int zero_point) {
  for (auto& quant : block.quants) quant = static_cast<std::uint8_t>(quant - midpoint + zero_point);
  return block;
}

UnpackedBlock unpack(BlockFormat format, const std::byte* from, int zero_point) {
  switch (format) {
    case BlockFormat::kQ4_0:
      return recentred(unpack_nibbles<BlockQ4_0>(from), 8, zero_point);
    case BlockFormat::kQ4_1:
      return unpack_nibbles<BlockQ4_1>(from);
    case BlockFormat::kQ5_0:
      return recentred(unpack_nibbles<BlockQ5_0>(from), 16, zero_point);
    case BlockFormat::kQ5_1:
      return unpack_nibbles<BlockQ5_1>(from);
    case BlockFormat::kQ8_0: {
      BlockQ8_0 block;
      std::memcpy(&block, from, sizeof(block));
      UnpackedBlock result;
      for (std::size_t i = 0; i < kBlock; ++i) {
        result.quants[i] = static_cast<std::uint8_t>(block.quants[i] + zero_point);
      }
      result.scale = block.scale;
      return result;
    }
    default:
      bug("unpack: not a format with blocks of 32");
  }
}

void store_block(PanelLayout layout, const UnpackedBlock& block, int row, std::byte* to) {
  for (std::size_t group = 0; group < (panel::has_nibbles(layout) ? 4 : 8); ++group) {
    std::byte* quants = to + group * kRows * 4 + static_cast<std::size_t>(row) * 4;
    for (std::size_t i = 0; i < 4; ++i) {
      unsigned byte = block.quants[group * 4 + i];
      if (panel::has_nibbles(layout)) {
        byte |= static_cast<unsigned>(block.quants[group * 4 + i + 16]) << 4;
      }
      quants[i] = static_cast<std::byte>(byte);
    }
  }
  std::byte* scales = to + panel::quant_bytes(layout) + static_cast<std::size_t>(row) * 2;
  std::memcpy(scales, &block.scale, 2);
  if (panel::has_min(layout)) std::memcpy(scales + panel::kScaleBytes, &block.min, 2);
}

// Formats whose nibbles a nibble layout takes byte for byte: a copy instead of unpacking, which is
// most of what loading a model does.
template <class Block>
void copy_nibbles(PanelLayout layout, const std::byte* from, int row, std::byte* to) {
  Block block;
  std::memcpy(&block, from, sizeof(block));
  for (std::size_t group = 0; group < 4; ++group) {
    std::memcpy(to + group * kRows * 4 + static_cast<std::size_t>(row) * 4,
                block.nibbles.data() + group * 4, 4);
  }
  std::byte* scales = to + panel::quant_bytes(layout) + static_cast<std::size_t>(row) * 2;
  std::memcpy(scales, &block.scale, 2);
  if constexpr (requires { block.min; }) std::memcpy(scales + panel::kScaleBytes, &block.min, 2);
}

void pack_integer_row(PanelLayout layout, const WeightSource& source, const std::byte* row_data,
                      int row, std::byte* panel_data) {
  const auto source_bytes = static_cast<std::size_t>(info_of(source.format).block_bytes);
  const auto num_blocks = static_cast<std::size_t>(source.in_features / kBlock);
  for (std::size_t b = 0; b < num_blocks; ++b) {
    const std::byte* from = row_data + b * source_bytes;
    std::byte* to = panel_data + b * panel::block_bytes(layout);
    if (layout == PanelLayout::kNibbles) {
      copy_nibbles<BlockQ4_0>(layout, from, row, to);
    } else if (layout == PanelLayout::kNibblesMin) {
      copy_nibbles<BlockQ4_1>(layout, from, row, to);
    } else {
      store_block(layout, unpack(source.format, from, panel::zero_point(layout)), row, to);
    }
  }
}

void pack_float_row(PanelLayout layout, const WeightSource& source, const std::byte* row_data,
                    int row, std::byte* panel_data, std::vector<float>& values) {
  values.resize(static_cast<std::size_t>(source.in_features));
  dequantize_row(source.format, {row_data, row_bytes(source.format, source.in_features)}, values);
  const std::size_t bytes = panel::float_bytes(layout);
  std::byte* to = panel_data + static_cast<std::size_t>(row) * bytes;
  for (const float value : values) {
    const std::uint16_t half =
        layout == PanelLayout::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
    std::memcpy(to, layout == PanelLayout::kF32 ? static_cast<const void*>(&value) : &half, bytes);
    to += kRows * bytes;
  }
}

// The source that holds row `row` of all sources together, and where.
struct SourceRow {
  const WeightSource* source;
  const std::byte* data;
};

std::optional<SourceRow> find_row(std::span<const WeightSource> sources, std::int64_t row) {
  for (const WeightSource& source : sources) {
    if (row < source.out_features) {
      const std::size_t bytes = row_bytes(source.format, source.in_features);
      return SourceRow{&source, source.blocks + static_cast<std::size_t>(row) * bytes};
    }
    row -= source.out_features;
  }
  return std::nullopt;
}

}  // namespace

PackedWeight cpu_pack(std::span<const WeightSource> sources, LinearMode mode, Stream stream) {
  check_sources(sources);
  PackedWeight weight;
  weight.layout = common_layout(sources, mode);
  weight.in_features = sources.front().in_features;
  for (const WeightSource& source : sources) weight.out_features += source.out_features;
  const std::int64_t num_panels = ceil_div(weight.out_features, kRows);
  const std::size_t panel_bytes = panel::panel_bytes(weight.layout, weight.in_features);
  weight.blocks = AlignedBuffer(static_cast<std::size_t>(num_panels) * panel_bytes);
  stream.threads->parallel_for(num_panels, 8, [&](Range panels) {
    std::vector<float> values;
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      std::byte* panel_data = weight.blocks.data() + static_cast<std::size_t>(p) * panel_bytes;
      if ((p + 1) * kRows > weight.out_features) std::memset(panel_data, 0, panel_bytes);
      for (int row = 0; row < kRows; ++row) {
        const auto found = find_row(sources, p * kRows + row);
        if (!found) break;
        if (panel::is_integer(weight.layout)) {
          pack_integer_row(weight.layout, *found->source, found->data, row, panel_data);
        } else {
          pack_float_row(weight.layout, *found->source, found->data, row, panel_data, values);
        }
      }
    }
  });
  return weight;
}

namespace {

std::uint16_t load_u16(const std::byte* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, 2);
  return bits;
}

void unpack_integer_row(const PackedWeight& weight, const std::byte* panel_data, int row,
                        float* out) {
  const PanelLayout layout = weight.layout;
  for (std::int64_t b = 0; b < weight.in_features / kBlock; ++b) {
    const std::byte* block = panel_data + static_cast<std::size_t>(b) * panel::block_bytes(layout);
    const std::byte* scales = block + panel::quant_bytes(layout) + 2 * row;
    const float scale = f16_to_f32(load_u16(scales));
    const float min =
        panel::has_min(layout) ? f16_to_f32(load_u16(scales + panel::kScaleBytes)) : 0.0F;
    for (int column = 0; column < kBlock; ++column) {
      const int stored = panel::has_nibbles(layout) ? column % 16 : column;
      auto quant = std::to_integer<int>(block[stored / 4 * kRows * 4 + row * 4 + stored % 4]);
      if (panel::has_nibbles(layout)) quant = column < 16 ? quant & 15 : quant >> 4;
      *out++ = scale * static_cast<float>(quant - panel::zero_point(layout)) + min;
    }
  }
}

void unpack_float_row(const PackedWeight& weight, const std::byte* panel_data, int row,
                      float* out) {
  const std::size_t bytes = panel::float_bytes(weight.layout);
  for (std::int64_t column = 0; column < weight.in_features; ++column) {
    const std::byte* from =
        panel_data +
        (static_cast<std::size_t>(column) * kRows + static_cast<std::size_t>(row)) * bytes;
    if (weight.layout == PanelLayout::kF32) {
      std::memcpy(out + column, from, 4);
    } else {
      const std::uint16_t bits = load_u16(from);
      out[column] = weight.layout == PanelLayout::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
  }
}

}  // namespace

void cpu_gather_rows(const PackedWeight& weight, std::span<const std::int32_t> rows, TensorView out,
                     Stream stream) {
  check_eq(out.shape, Dims({static_cast<std::int64_t>(rows.size()), weight.in_features}),
           "gather_rows: shape of out");
  for (std::int32_t row : rows) {
    check(row >= 0 && row < weight.out_features,
          concat("gather_rows: row must be in [0, ", weight.out_features, ") (", row, ")"));
  }
  const std::size_t panel_bytes = panel::panel_bytes(weight.layout, weight.in_features);
  const auto count = static_cast<std::int64_t>(rows.size());
  stream.threads->parallel_for(count, 32, [&](Range range) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const std::int32_t row = rows[static_cast<std::size_t>(i)];
      const std::byte* panel_data =
          weight.blocks.data() + static_cast<std::size_t>(row / kRows) * panel_bytes;
      float* to = out.as<float>() + i * out.stride(0);
      if (panel::is_integer(weight.layout)) {
        unpack_integer_row(weight, panel_data, row % kRows, to);
      } else {
        unpack_float_row(weight, panel_data, row % kRows, to);
      }
    }
  });
}

}  // namespace perpend
