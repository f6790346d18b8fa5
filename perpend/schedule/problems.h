#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/mask/bound_mask.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// Where the two axes of a sweep begin, in absolute positions, and how long they are.
struct Axes {
  std::int64_t outer_offset = 0;
  std::int64_t outer_len = 0;
  std::int64_t inner_offset = 0;
  std::int64_t inner_len = 0;

  friend bool operator==(const Axes&, const Axes&) = default;
};
Axes axes_of(const SequenceShape& sequence, Sweep sweep);

// A mask as some heads see it over one shape of sequence: what lists are made for, once.
struct Problem {
  std::int32_t mask = 0;  // index into Problems::masks
  Axes axes;
  std::int32_t classes = 0;  // the first mask that shares classes with it
};

// The distinct problems of a batch, and which of them each head of each sequence has. Sequences
// whose heads have the same problems are of one kind: plans are made for a kind, so that they do
// not depend on who else is in the batch.
class Problems {
 public:
  struct Kind {
    std::size_t first = 0;  // problem
    std::size_t count = 0;
    bool groups_differ = false;  // whether heads of one group have different problems
  };

  // With `share` off every head of every sequence is a problem of its own.
  Problems(std::span<const Mask> masks, const AttentionShape& shape, Sweep sweep, bool share);

  const std::vector<Problem>& all() const { return problems_; }
  const std::vector<Kind>& kinds() const { return kinds_; }
  std::span<const Problem> of(const Kind& kind) const {
    return std::span(problems_).subspan(kind.first, kind.count);
  }
  const BoundMask& mask_of(const Problem& problem) const {
    return masks_[static_cast<std::size_t>(problem.mask)];
  }
  std::size_t kind_of(std::size_t sequence) const {
    return static_cast<std::size_t>(kind_of_[sequence]);
  }
  // Index of the problem of a head.
  std::int32_t of(std::size_t sequence, int q_head) const {
    return of_head_[kind_of(sequence) * heads_apart_ +
                    (heads_apart_ == 1 ? 0 : static_cast<std::size_t>(q_head))];
  }

 private:
  // Indices into masks_ of `mask` as each query head sees it; one for all when they agree.
  std::vector<std::int32_t> bind(const Mask& mask, const AttentionShape& shape, bool share);
  void add_mask(BoundMask mask, bool share);
  void add_kind(std::span<const std::int32_t> mask_of_head, const Axes& axes, int group_size,
                bool share);

  std::vector<BoundMask> masks_;
  std::vector<std::int32_t> classes_;  // of each mask
  std::vector<Problem> problems_;
  std::vector<Kind> kinds_;
  std::vector<std::int32_t> kind_of_;  // each sequence
  std::vector<std::int32_t> of_head_;  // problems of the heads of each kind
  std::size_t heads_apart_ = 1;        // heads of a kind in of_head_: all, or one for all
};

}  // namespace perpend
