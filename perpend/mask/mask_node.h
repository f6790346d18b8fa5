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
  // The keys that query q sees, and the queries that see key k, for primitives.
  Range band(std::int64_t q) const;
  Range column_band(std::int64_t k) const;
};

}  // namespace perpend
