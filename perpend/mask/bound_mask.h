#pragma once

#include <cstdint>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Along which axis a rectangle of pairs is laid out. kRows: the outer axis are queries, the inner
// one keys (forward, dQ). kColumns: the outer axis are keys, the inner one queries (dK, dV).
enum class Sweep : std::uint8_t { kRows, kColumns };

// Which heads a mask is asked about: `heads(...)` looks at the query head, `every(...)` at the
// key/value head.
struct HeadIndex {
  int q_head = 0;
  int kv_head = 0;
};

// A mask as one head sees it, ready to be asked: what planning, retention and pictures work with.
// Positions are absolute. Equal values have equal bits everywhere, so that heads share plans.
class BoundMask {
 public:
  // Throws InvalidArgument that names the label when the mask still has unbound names.
  explicit BoundMask(const Mask& mask, HeadIndex head = {});

  // Whether query q sees key k.
  bool visible(std::int64_t q, std::int64_t k) const;
  // The rectangle queries x keys (both not empty). kSome may be cautious; kAll and kNone never lie.
  Answer answer(Range queries, Range keys) const;

  // What the mask says of `outer` x [inner.begin, end), with inner.begin < end <= inner.end: the
  // longest such stretch of one answer that can be told without looking at pairs.
  struct Stretch {
    Answer answer = Answer::kNone;
    std::int64_t end = 0;
  };
  Stretch stretch(Sweep sweep, Range outer, Range inner) const;

  // Pairs (outer, inner_begin + i) for i in [0, 64) as one word, bit i for inner_begin + i.
  std::uint64_t word(Sweep sweep, std::int64_t outer, std::int64_t inner_begin) const;

  // Names the equality class of a rectangle's bits: two rectangles of equal size with equal classes
  // have equal bits. Appends to `key`.
  void append_class(Sweep sweep, Range outer, Range inner, std::vector<std::int64_t>& key) const;

  friend bool operator==(const BoundMask& a, const BoundMask& b) = default;

 private:
  Mask mask_;
};

}  // namespace perpend
