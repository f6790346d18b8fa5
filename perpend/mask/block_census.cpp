#include "perpend/mask/block_census.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "perpend/core/error.h"
#include "perpend/mask/bound_mask.h"

namespace perpend {
namespace {

// Visible pairs of queries x keys, one by one.
std::int64_t count_pairs(const BoundMask& mask, Range queries, Range keys) {
  std::int64_t count = 0;
  for (std::int64_t q = queries.begin; q < queries.end; ++q) {
    for (std::int64_t k = keys.begin; k < keys.end; k += 64) {
      std::uint64_t word = mask.word(Sweep::kRows, q, k);
      if (keys.end - k < 64) word &= (std::uint64_t{1} << (keys.end - k)) - 1;
      count += std::popcount(word);
    }
  }
  return count;
}

class HeadCensus {
 public:
  HeadCensus(const BoundMask& mask, std::int64_t num_tokens, std::int64_t block_size)
      : mask_(mask), num_tokens_(num_tokens), block_size_(block_size) {}

  BlockCensus count() {
    for (std::int64_t begin = 0; begin < num_tokens_; begin += block_size_) {
      count_row({begin, std::min(begin + block_size_, num_tokens_)});
    }
    return census_;
  }

 private:
  void count_row(Range queries) {
    last_live_ = -1;
    Range keys{0, num_tokens_};
    while (!keys.empty()) {
      const auto part = mask_.stretch(Sweep::kRows, queries, keys);
      const Range piece{keys.begin, part.end};
      if (part.answer == Answer::kAll) {
        census_.live_pairs += queries.size() * piece.size();
        add_live(piece.begin / block_size_, (piece.end - 1) / block_size_);
      } else if (part.answer == Answer::kSome) {
        look(queries, piece);
      }
      keys.begin = part.end;
    }
  }

  void look(Range queries, Range keys) {
    while (!keys.empty()) {
      const std::int64_t block = keys.begin / block_size_;
      const Range inside{keys.begin, std::min(keys.end, (block + 1) * block_size_)};
      const std::int64_t pairs = count_pairs(mask_, queries, inside);
      census_.live_pairs += pairs;
      if (pairs > 0) add_live(block, block);
      keys.begin = inside.end;
    }
  }

  // Blocks [first, last] of the row; pieces come in order and may share a block.
  void add_live(std::int64_t first, std::int64_t last) {
    census_.live_blocks += last - std::max(first, last_live_ + 1) + 1;
    last_live_ = last;
  }

  const BoundMask& mask_;
  std::int64_t num_tokens_;
  std::int64_t block_size_;
  std::int64_t last_live_ = -1;
  BlockCensus census_;
};

}  // namespace

BlockCensus count_blocks(const Mask& mask, std::int64_t num_tokens, std::int64_t block_size,
                         int num_q_heads, int num_kv_heads) {
  check(num_tokens >= 0 && block_size > 0,
        concat("block census: tokens and block size must be positive (", num_tokens, ", ",
               block_size, ")"));
  check(num_kv_heads > 0 && num_q_heads > 0 && num_q_heads % num_kv_heads == 0,
        concat("block census: query heads must be a positive multiple of key/value heads (",
               num_q_heads, " vs ", num_kv_heads, ")"));
  std::vector<std::pair<BoundMask, BlockCensus>> distinct;
  BlockCensus total;
  for (int head = 0; head < num_q_heads; ++head) {
    const BoundMask bound(mask, {head, head / (num_q_heads / num_kv_heads)});
    auto known = std::ranges::find(distinct, bound, &std::pair<BoundMask, BlockCensus>::first);
    if (known == distinct.end()) {
      distinct.emplace_back(bound, HeadCensus(bound, num_tokens, block_size).count());
      known = std::prev(distinct.end());
    }
    total.live_blocks += known->second.live_blocks;
    total.live_pairs += known->second.live_pairs;
  }
  return total;
}

}  // namespace perpend
