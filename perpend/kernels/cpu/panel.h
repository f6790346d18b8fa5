#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "perpend/kernels/quantized.h"

namespace perpend {

// Byte arithmetic of packed weights. A panel is PackedWeight::kPanel rows; integer panels are cut
// into blocks of kBlock columns. Within a block, vector j holds 4 neighbouring columns of each of
// the 16 rows, row after row: what one vpdpbusd consumes. Nibble layouts put columns 4j.. in the
// low and columns 16 + 4j.. in the high nibbles. After the quants follow 16 f16 scales and, in the
// Min layouts, 16 f16 minima.
namespace panel {

constexpr int kRows = PackedWeight::kPanel;
constexpr int kBlock = 32;
constexpr std::size_t kScaleBytes = kRows * 2;

constexpr bool is_integer(PanelLayout layout) { return layout < PanelLayout::kF32; }
constexpr bool has_nibbles(PanelLayout layout) {
  return layout == PanelLayout::kNibbles || layout == PanelLayout::kNibblesMin;
}
constexpr bool has_min(PanelLayout layout) {
  return layout == PanelLayout::kNibblesMin || layout == PanelLayout::kBytesMin;
}
constexpr int zero_point(PanelLayout layout) {
  if (has_min(layout)) return 0;
  return has_nibbles(layout) ? 8 : 128;
}
constexpr std::size_t quant_bytes(PanelLayout layout) {
  return has_nibbles(layout) ? kRows * kBlock / 2 : kRows * kBlock;
}
constexpr std::size_t block_bytes(PanelLayout layout) {
  return quant_bytes(layout) + kScaleBytes * (has_min(layout) ? 2 : 1);
}
constexpr std::size_t float_bytes(PanelLayout layout) {
  return layout == PanelLayout::kF32 ? 4 : 2;
}

// Bytes of one panel of in_features columns.
constexpr std::size_t panel_bytes(PanelLayout layout, std::int64_t in_features) {
  const auto columns = static_cast<std::size_t>(in_features);
  return is_integer(layout) ? columns / kBlock * block_bytes(layout)
                            : columns * kRows * float_bytes(layout);
}

// visit(std::integral_constant<PanelLayout, layout>{}) of an integer layout.
template <class Visit>
void visit_integer(PanelLayout layout, Visit visit) {
  switch (layout) {
    case PanelLayout::kNibbles:
      return visit(std::integral_constant<PanelLayout, PanelLayout::kNibbles>{});
    case PanelLayout::kNibblesMin:
      return visit(std::integral_constant<PanelLayout, PanelLayout::kNibblesMin>{});
    case PanelLayout::kBytes:
      return visit(std::integral_constant<PanelLayout, PanelLayout::kBytes>{});
    default:
      return visit(std::integral_constant<PanelLayout, PanelLayout::kBytesMin>{});
  }
}

}  // namespace panel
}  // namespace perpend
