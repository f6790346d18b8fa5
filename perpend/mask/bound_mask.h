#pragma once

#include <array>
#include <cstddef>
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
class NodeQuestions;

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

  // Up to where in `inner` (not empty) each of `outer` has the pair it has at inner.begin; may be
  // cautious, but is behind inner.begin.
  std::int64_t steady_end(Sweep sweep, Range outer, Range inner) const;

  // Pairs (outer, inner_begin + i) for i in [0, 64) as one word, bit i for inner_begin + i.
  std::uint64_t word(Sweep sweep, std::int64_t outer, std::int64_t inner_begin) const;

  // The same for each of `outer`: the word of outer.begin + i goes to words[i * stride].
  void words(Sweep sweep, Range outer, std::int64_t inner_begin, std::uint64_t* words,
             std::ptrdiff_t stride = 1) const;

  // Names the equality class of a rectangle's bits: two rectangles of equal size with equal classes
  // have equal bits, of one sweep and of masks that share classes. Appends to `key`.
  void append_class(Sweep sweep, Range outer, Range inner, std::vector<std::int64_t>& key) const;
  // Such as one mask for heads that differ in where every() begins.
  bool shares_classes(const BoundMask& other) const;

  // Positions inside `outer`, its begin left out, where a segment, block or period of a label of
  // the mask begins: where tiles may well begin too. Ascending. Labels whose parts are shorter than
  // kLeastPart on average are left out.
  static constexpr std::int64_t kLeastPart = 8;
  std::vector<std::int64_t> starts(Sweep sweep, Range outer) const;

  std::size_t hash() const;
  friend bool operator==(const BoundMask& a, const BoundMask& b);

 private:
  friend class MaskWalk;
  std::shared_ptr<const MaskProgram> program_;
};

// The questions of one outer range, asked along the inner axis: the same answers as BoundMask's,
// and faster where one follows another, because parts of the mask that have not changed their
// answer are not asked again. Refers to the mask; allocates nothing.
class MaskWalk {
 public:
  MaskWalk(const BoundMask& mask, Sweep sweep, Range outer);

  BoundMask::Stretch stretch(Range inner);
  void append_class(Range inner, std::vector<std::int64_t>& key);

  // What a node of the program said last: `answer` in [begin, end). Nothing to construct: walks are
  // made by the thousand, and few masks have so many nodes as there is room for.
  struct Memory {
    std::int64_t begin;
    std::int64_t end;
    Answer answer;
  };

 private:
  static constexpr std::size_t kMostNodes = 48;  // larger masks are asked anew each time

  NodeQuestions questions();

  const MaskProgram& program_;
  Range outer_;
  Sweep sweep_;
  std::array<Memory, kMostNodes> memory_;
};

}  // namespace perpend

template <>
struct std::hash<perpend::BoundMask> {
  std::size_t operator()(const perpend::BoundMask& mask) const { return mask.hash(); }
};
