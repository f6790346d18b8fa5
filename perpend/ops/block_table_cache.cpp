#include "perpend/ops/block_table_cache.h"

#include <algorithm>

namespace perpend {

std::shared_ptr<const BlockAttentionTables> BlockTableCache::get(const BlockAttentionSpec& spec,
                                                                 Device device) {
  if (auto known = find(spec, device)) return known;
  // Made without the lock: others need not wait, and two that make the same make equal ones.
  auto tables = make_block_attention_tables(spec, device);
  std::shared_ptr<const BlockAttentionTables> oldest;  // freed without the lock
  const std::scoped_lock lock(mutex_);
  entries_.push_front(tables);
  if (entries_.size() > capacity_) {
    oldest = std::move(entries_.back());
    entries_.pop_back();
  }
  return tables;
}

std::shared_ptr<const BlockAttentionTables> BlockTableCache::find(const BlockAttentionSpec& spec,
                                                                  Device device) {
  const std::scoped_lock lock(mutex_);
  const auto found = std::ranges::find_if(entries_, [&](const auto& known) {
    return known->device() == device && known->spec() == spec;
  });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front();
}

BlockTableCache& block_table_cache() {
  static BlockTableCache cache;
  return cache;
}

}  // namespace perpend
