#include "perpend/io/tokenizer/byte_pair_merger.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

namespace perpend {
namespace {

// Up to here looking at every pair costs less than a queue.
constexpr std::size_t kMaxShort = 24;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
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

void BytePairMerger::reserve(std::size_t num_merges) {
  const std::size_t size = std::bit_ceil(num_merges * 2 + 2);
  if (size <= table_.size()) return;
  std::vector<Merge> old(size);
  old.swap(table_);
  for (const Merge& merge : old) {
    if (merge.pair != kNoPair) table_[slot_of(merge.pair)] = merge;
  }
}

std::size_t BytePairMerger::slot_of(std::uint64_t pair) const {
  constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;
  std::uint64_t hash = pair * kGoldenRatio;
  hash ^= hash >> 32;
  std::size_t slot = hash & (table_.size() - 1);
  while (table_[slot].pair != kNoPair && table_[slot].pair != pair) {
    slot = (slot + 1) & (table_.size() - 1);
  }
  return slot;
}

void BytePairMerger::add(std::int32_t left, std::int32_t right, std::int32_t merged,
                         std::int32_t rank) {
  reserve(num_merges_ + 1);
  Merge& merge = table_[slot_of(pair_of(left, right))];
  if (merge.pair == kNoPair) ++num_merges_;
  merge = {pair_of(left, right), rank, merged};
}

const BytePairMerger::Merge* BytePairMerger::find(std::int32_t left, std::int32_t right) const {
  if (num_merges_ == 0) return nullptr;
  const Merge& merge = table_[slot_of(pair_of(left, right))];
  return merge.pair == kNoPair ? nullptr : &merge;
}

void BytePairMerger::merge(std::vector<Piece>& pieces, std::size_t begin) const {
  const std::size_t size = pieces.size() - begin;
  if (size < 2) return;
  if (size <= kMaxShort) {
    merge_short(pieces, begin);
  } else {
    merge_long(pieces, begin);
  }
}

void BytePairMerger::merge_short(std::vector<Piece>& pieces, std::size_t begin) const {
  constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();
  Piece* const p = pieces.data() + begin;
  std::size_t size = pieces.size() - begin;
  std::array<Merge, kMaxShort> merges;  // of piece i with i + 1
  const auto look_up = [&](std::size_t i) {
    const Merge* found = find(p[i].id, p[i + 1].id);
    merges[i] = found ? *found : Merge{kNoPair, kNever, 0};
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNever) break;
    p[best] = {merges[best].merged, p[best].size + p[best + 1].size};
    --size;
    for (std::size_t i = best + 1; i < size; ++i) {
      p[i] = p[i + 1];
      merges[i - 1] = merges[i];
    }
    if (best + 1 < size) look_up(best);
    if (best != 0) look_up(best - 1);
  }
  pieces.resize(begin + size);
}

void BytePairMerger::merge_long(std::vector<Piece>& pieces, std::size_t begin) const {
  const auto size = static_cast<std::int32_t>(pieces.size() - begin);
  std::vector<std::int32_t> next(static_cast<std::size_t>(size));
  std::vector<std::int32_t> previous(static_cast<std::size_t>(size));
  std::priority_queue<Candidate> queue;
  const auto index = [](std::int32_t i) { return static_cast<std::size_t>(i); };
  const auto piece = [&](std::int32_t i) -> Piece& { return pieces[begin + index(i)]; };
  const auto consider = [&](std::int32_t left) {
    const std::int32_t right = next[index(left)];
    if (right >= size) return;
    if (const Merge* merge = find(piece(left).id, piece(right).id)) {
      queue.push({merge->rank, left, piece(left).id, piece(right).id, merge->merged});
    }
  };
  for (std::int32_t i = 0; i < size; ++i) {
    next[index(i)] = i + 1;
    previous[index(i)] = i - 1;
  }
  for (std::int32_t i = 0; i + 1 < size; ++i) consider(i);
  constexpr std::int32_t kGone = -1;
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const std::int32_t other = next[index(best.position)];
    if (piece(best.position).id != best.left || other >= size || piece(other).id != best.right) {
      continue;
    }
    piece(best.position) = {best.merged, piece(best.position).size + piece(other).size};
    piece(other).id = kGone;
    const std::int32_t after = next[index(other)];
    next[index(best.position)] = after;
    if (after < size) previous[index(after)] = best.position;
    consider(best.position);
    if (previous[index(best.position)] >= 0) consider(previous[index(best.position)]);
  }
  const auto from = pieces.begin() + static_cast<std::ptrdiff_t>(begin);
  pieces.erase(std::remove_if(from, pieces.end(), [](const Piece& p) { return p.id == kGone; }),
               pieces.end());
}

}  // namespace perpend
