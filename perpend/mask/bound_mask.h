#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Along which axis a rectangle of pairs is laid out. kRows: the outer axis are queries, the inner
// one keys (forward, dQ). kColumns: the outer axis are keys, the inner one queries (dK, dV).
enum class Sweep : std::uint8_t { kRows, kColumns };

struct MaskProgram;

// A mask as one head sees it, ready to be asked: what planning, retention and pictures work with.
// A value, cheap to copy and to compare. Positions are absolute and not negative. Equal values have
// equal bits everywhere, so that heads share plans. Questions allocate nothing.
class BoundMask {
 public:
  // Throws InvalidArgument that names what is not bound, or the head for which there is no mask.
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
  // have equal bits (of one mask and sweep). Appends to `key`.
  void append_class(Sweep sweep, Range outer, Range inner, std::vector<std::int64_t>& key) const;

  // Positions inside `outer`, its begin left out, where a segment, block or period of a label of
  // the mask begins: where tiles may well begin too. Ascending. Labels whose parts are shorter than
  // kLeastPart on average are left out.
  static constexpr std::int64_t kLeastPart = 8;
  std::vector<std::int64_t> starts(Sweep sweep, Range outer) const;

  std::size_t hash() const;
  friend bool operator==(const BoundMask& a, const BoundMask& b);

 private:
  std::shared_ptr<const MaskProgram> program_;
};

}  // namespace perpend

template <>
struct std::hash<perpend::BoundMask> {
  std::size_t operator()(const perpend::BoundMask& mask) const { return mask.hash(); }
};
