#include "perpend/mask/retention.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {
namespace {

// How many words of 64 pairs are looked at where no answer decides, before a key counts as visible.
constexpr std::int64_t kMostWords = 1 << 14;

bool any_pair(const BoundMask& mask, Range keys, Range queries) {
  for (std::int64_t k = keys.begin; k < keys.end; ++k) {
    for (std::int64_t q = queries.begin; q < queries.end; q += 64) {
      const std::uint64_t word = mask.word(Sweep::kColumns, k, q);
      const std::int64_t count = queries.end - q;
      if ((count < 64 ? word & ((std::uint64_t{1} << count) - 1) : word) != 0) return true;
    }
  }
  return false;
}

bool is_seen(const BoundMask& mask, Range keys, Range queries) {
  std::int64_t words_left = kMostWords;
  while (!queries.empty()) {
    const auto part = mask.stretch(Sweep::kColumns, keys, queries);
    if (part.answer == Answer::kAll) return true;
    if (part.answer == Answer::kSome) {
      // Pieces that are worth a look; a piece that is not is taken for visible.
      words_left -= keys.size() * ceil_div(part.end - queries.begin, 64);
      if (words_left < 0 || any_pair(mask, keys, {queries.begin, part.end})) return true;
    }
    queries.begin = part.end;
  }
  return false;
}

void add_distinct(std::vector<BoundMask>& masks, const BoundMask& mask) {
  if (std::find(masks.begin(), masks.end(), mask) == masks.end()) masks.push_back(mask);
}

}  // namespace

Retention::Retention(const Mask& mask, std::int64_t max_len, int num_q_heads, int num_kv_heads)
    : heads_(static_cast<std::size_t>(std::max(0, num_kv_heads))), max_len_(max_len) {
  check(num_kv_heads > 0 && num_q_heads > 0 && num_q_heads % num_kv_heads == 0,
        concat("retention: query heads must be a positive multiple of key/value heads (",
               num_q_heads, " vs ", num_kv_heads, ")"));
  for (int head = 0; head < num_q_heads; ++head) {
    const int kv_head = head / (num_q_heads / num_kv_heads);
    const BoundMask bound(mask, {head, kv_head});
    add_distinct(heads_[static_cast<std::size_t>(kv_head)], bound);
    add_distinct(distinct_, bound);
  }
}

bool Retention::may_be_seen(Range keys, std::int64_t next_q) const {
  return !keys.empty() && std::any_of(distinct_.begin(), distinct_.end(), [&](const auto& mask) {
    return is_seen(mask, keys, {next_q, max_len_});
  });
}

bool Retention::may_be_seen(int kv_head, Range keys, std::int64_t next_q) const {
  const auto& masks = heads_[static_cast<std::size_t>(kv_head)];
  return !keys.empty() && std::any_of(masks.begin(), masks.end(), [&](const auto& mask) {
    return is_seen(mask, keys, {next_q, max_len_});
  });
}

std::vector<Range> Retention::kept_keys(std::int64_t num_tokens, std::int64_t page_size) const {
  std::vector<Range> kept;
  for (std::int64_t begin = 0; begin < num_tokens; begin += page_size) {
    const Range page{begin, begin + page_size};
    const bool whole = page.end <= num_tokens;
    if (whole && !may_be_seen(page, num_tokens)) continue;
    if (!kept.empty() && kept.back().end == begin) {
      kept.back().end = page.end;
    } else {
      kept.push_back(page);
    }
  }
  return kept;
}

std::int64_t Retention::retained_pages(std::int64_t num_tokens, std::int64_t page_size) const {
  std::int64_t num_keys = 0;
  for (const Range& keys : kept_keys(num_tokens, page_size)) num_keys += keys.size();
  return num_keys / page_size;
}

}  // namespace perpend
