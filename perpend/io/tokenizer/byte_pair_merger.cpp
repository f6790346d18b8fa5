#include "perpend/io/tokenizer/byte_pair_merger.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace perpend {
namespace {

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

// A pair that may be merged, unless one of its tokens has changed since.
struct BytePairMerger::Candidate {
  std::int32_t rank;
  std::int32_t position;
  std::int32_t left;
  std::int32_t right;
  std::int32_t merged;

  bool operator<(const Candidate& other) const {
    return std::tie(rank, position) > std::tie(other.rank, other.position);
  }
};

void BytePairMerger::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  merges_.try_emplace(key_of(left, right),
                      Merge{static_cast<std::int32_t>(merges_.size()), merged});
}

const BytePairMerger::Merge* BytePairMerger::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairMerger::merge(std::vector<std::int32_t>& ids) const {
  const auto size = static_cast<std::int32_t>(ids.size());
  if (size < 2) return;
  constexpr std::int32_t kGone = -1;
  std::vector<std::int32_t> next(ids.size());
  std::vector<std::int32_t> previous(ids.size());
  std::priority_queue<Candidate> queue;
  const auto at = [](std::vector<std::int32_t>& list, std::int32_t i) -> std::int32_t& {
    return list[static_cast<std::size_t>(i)];
  };
  const auto consider = [&](std::int32_t position) {
    const std::int32_t other = at(next, position);
    if (other >= size) return;
    if (const Merge* merge = find(at(ids, position), at(ids, other))) {
      queue.push({merge->rank, position, at(ids, position), at(ids, other), merge->merged});
    }
  };
  for (std::int32_t i = 0; i < size; ++i) {
    at(next, i) = i + 1;
    at(previous, i) = i - 1;
  }
  for (std::int32_t i = 0; i + 1 < size; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const std::int32_t other = at(next, best.position);
    if (at(ids, best.position) != best.left || other >= size || at(ids, other) != best.right) {
      continue;
    }
    at(ids, best.position) = best.merged;
    at(ids, other) = kGone;
    at(next, best.position) = at(next, other);
    if (at(next, other) < size) at(previous, at(next, other)) = best.position;
    consider(best.position);
    if (at(previous, best.position) >= 0) consider(at(previous, best.position));
  }
  std::erase(ids, kGone);
}

}  // namespace perpend
