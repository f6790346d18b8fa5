#include "perpend/rank/document_cache.h"

#include <string_view>

#include "perpend/core/range.h"

namespace perpend {
namespace {

std::size_t hash_of(const std::vector<std::int32_t>& tokens) {
  return std::hash<std::string_view>()(
      {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(std::int32_t)});
}

}  // namespace

DocumentCache::Entries::iterator DocumentCache::place_of(const std::vector<std::int32_t>& tokens,
                                                         std::size_t hash) {
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (it->second->tokens == tokens) return it->second;
  }
  return entries_.end();
}

const DocumentCache::Entry* DocumentCache::find(const std::vector<std::int32_t>& tokens) {
  const auto place = place_of(tokens, hash_of(tokens));
  if (place == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, place);
  return &*place;
}

void DocumentCache::add(const std::vector<std::int32_t>& tokens, const KvSequence& from,
                        std::int64_t begin, const torch::Tensor& keys) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (round_up(count, store_.config().page_size) > store_.config().max_tokens) return;
  entries_.emplace_front(store_);
  Entry& entry = entries_.front();
  while (!entry.kv.append(count)) {
    const auto oldest = std::prev(entries_.end());
    const auto [first, last] = by_hash_.equal_range(hash_of(oldest->tokens));
    for (auto it = first; it != last; ++it) {
      if (it->second != oldest) continue;
      by_hash_.erase(it);
      break;
    }
    entries_.erase(oldest);
  }
  copy_pages(from, {begin, count}, entry.kv, 0);
  entry.tokens = tokens;
  entry.keys = keys.clone();
  by_hash_.emplace(hash_of(tokens), entries_.begin());
}

void DocumentCache::clear() {
  by_hash_.clear();
  entries_.clear();
}

}  // namespace perpend
