#include "perpend/mask/bound_mask.h"

#include <algorithm>

#include "perpend/mask/mask_program.h"
#include "perpend/mask/mask_questions.h"

namespace perpend {

BoundMask::BoundMask(const Mask& mask, HeadIndex head)
    : program_(std::make_shared<const MaskProgram>(make_program(mask, head))) {}

bool BoundMask::visible(std::int64_t q, std::int64_t k) const {
  return NodeQuestions(*program_, Sweep::kRows, {q, q + 1}).pair(program_->nodes.front(), q, k);
}

Answer BoundMask::answer(Range queries, Range keys) const {
  const Stretch part = stretch(Sweep::kRows, queries, keys);
  return part.end == keys.end ? part.answer : Answer::kSome;
}

BoundMask::Stretch BoundMask::stretch(Sweep sweep, Range outer, Range inner) const {
  return NodeQuestions(*program_, sweep, outer)
      .stretch(program_->nodes.front(), inner.begin, inner.end);
}

std::int64_t BoundMask::steady_end(Sweep sweep, Range outer, Range inner) const {
  const std::int64_t end = NodeQuestions(*program_, sweep, outer)
                               .steady_end(program_->nodes.front(), inner.begin, inner.end);
  return std::min(end, inner.end);
}

std::uint64_t BoundMask::word(Sweep sweep, std::int64_t outer, std::int64_t inner_begin) const {
  return NodeQuestions(*program_, sweep, {outer, outer + 1})
      .word(program_->nodes.front(), outer, inner_begin);
}

void BoundMask::words(Sweep sweep, Range outer, std::int64_t inner_begin, std::uint64_t* words,
                      std::ptrdiff_t stride) const {
  std::array<std::uint64_t, NodeQuestions::kMostRows> rows;
  for (std::int64_t begin = outer.begin; begin < outer.end; begin += NodeQuestions::kMostRows) {
    const Range part{begin, std::min(begin + NodeQuestions::kMostRows, outer.end)};
    std::uint64_t* const to = stride == 1 ? words : rows.data();
    NodeQuestions(*program_, sweep, part).words(program_->nodes.front(), inner_begin, to);
    for (std::int64_t i = 0; to != words && i < part.size(); ++i) {
      words[i * stride] = rows[static_cast<std::size_t>(i)];
    }
    words += part.size() * stride;
  }
}

void BoundMask::append_class(Sweep sweep, Range outer, Range inner,
                             std::vector<std::int64_t>& key) const {
  NodeQuestions(*program_, sweep, outer).append_class(program_->nodes.front(), inner, key);
}

bool BoundMask::shares_classes(const BoundMask& other) const {
  return program_ == other.program_ || program_->shares_classes(*other.program_);
}

std::vector<std::int64_t> BoundMask::starts(Sweep sweep, Range outer) const {
  const unsigned axis = sweep == Sweep::kRows ? 1 : 2;
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < program_->labels.size(); ++i) {
    if ((program_->label_axes[i] & axis) == 0) continue;
    const std::size_t before = result.size();
    const auto most = static_cast<std::size_t>(outer.size() / kLeastPart);
    if (!program_->labels[i].node().append_starts(outer, before + most, result)) {
      result.resize(before);
    }
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

MaskWalk::MaskWalk(const BoundMask& mask, Sweep sweep, Range outer)
    : program_(*mask.program_), outer_(outer), sweep_(sweep) {
  const std::size_t num_nodes = std::min(program_.nodes.size(), kMostNodes);
  for (std::size_t i = 0; i < num_nodes; ++i) memory_[i] = {};
}

BoundMask::Stretch MaskWalk::stretch(Range inner) {
  return questions().stretch(program_.nodes.front(), inner.begin, inner.end);
}

void MaskWalk::append_class(Range inner, std::vector<std::int64_t>& key) {
  questions().append_class(program_.nodes.front(), inner, key);
}

NodeQuestions MaskWalk::questions() {
  const bool fits = program_.nodes.size() <= kMostNodes;
  return {program_, sweep_, outer_, fits ? memory_.data() : nullptr};
}

std::size_t BoundMask::hash() const { return program_->hash; }

bool operator==(const BoundMask& a, const BoundMask& b) {
  return a.program_ == b.program_ || *a.program_ == *b.program_;
}

}  // namespace perpend
