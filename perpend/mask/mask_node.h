#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "perpend/mask/mask.h"

namespace perpend {

// The inside of a Mask. Primitives are bands: the keys that a query sees form one interval whose
// two ends never move back as the query moves on. Operators combine children.
struct MaskNode {
  enum class Kind : std::uint8_t { kAll, kNone, kCausal, kWindow, kSink, kNot, kAnd, kOr };
  static constexpr std::int64_t kUnbounded = std::numeric_limits<std::int64_t>::max() / 4;

  Kind kind = Kind::kAll;
  std::int64_t a = 0;  // window: keys to the left; sink: count
  std::int64_t b = 0;  // window: keys to the right, kUnbounded when not given
  std::vector<Mask> children;

  bool is_operator() const { return kind >= Kind::kNot; }
  // The keys that query q sees, for primitives.
  Range band(std::int64_t q) const;
};

// Names the equality class of a rectangle's bits: two rectangles of equal size with equal classes
// have equal bits. Appends to `key`; primitives that decide the whole rectangle leave only that,
// bands that move with the query leave its distance, bands that do not leave the key position.
void append_tile_class(const Mask& mask, Range queries, Range keys, std::vector<std::int64_t>& key);

}  // namespace perpend
