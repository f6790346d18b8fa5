#pragma once

#include <cstdint>

// What host and device know of items that a GPU puts in order: most steps first.

namespace perpend::device {

constexpr std::int32_t kOrderThreads = 256;  // items that a CTA puts in order
constexpr std::int32_t kOrderBuckets = kOrderThreads;

// Items are sorted by buckets alone, of which the first have most steps: exact below 32 steps, then
// sixteen for each power of two.
constexpr std::int32_t order_bucket(std::int32_t steps) {
  std::int32_t exponent = 0;
  while (steps >> exponent >= 32) ++exponent;
  const std::int32_t rank = 16 * exponent + (steps >> exponent);
  return rank < kOrderBuckets ? kOrderBuckets - 1 - rank : 0;
}

// Items are sorted among those of a section, by several CTAs, of which none has items of two.
struct ItemSections {
  std::int32_t num_items;
  std::int32_t size;  // of each section; a multiple of 4

  constexpr std::int32_t ctas_per_section() const { return (size - 1) / kOrderThreads + 1; }
  constexpr std::int32_t num_ctas() const {
    return num_items == 0 ? 0 : ((num_items - 1) / size + 1) * ctas_per_section();
  }
};
// Sections of `size` items, a multiple of 4, of which one may hold all.
constexpr ItemSections item_sections(std::int32_t num_items, std::int64_t size) {
  return {num_items, size < num_items ? static_cast<std::int32_t>(size) : (num_items + 3) / 4 * 4};
}

}  // namespace perpend::device
