#include "perpend/cache/prefix_store.h"

#include <iterator>
#include <utility>

namespace perpend {

const PrefixStore::Entry* PrefixStore::find(const Digest& key) {
  const auto known = by_key_.find(key);
  if (known == by_key_.end()) return nullptr;
  slots_.splice(slots_.begin(), slots_, known->second);
  slots_.front().request = request_;
  return &slots_.front().entry;
}

void PrefixStore::add(const Digest& key, Entry entry) {
  const std::int64_t num_bytes = bytes_of(entry);
  if (find(key) != nullptr || !make_room(num_bytes)) return;
  num_bytes_ += num_bytes;
  for (const std::int32_t page : entry.pages) store_.pool().add_reference(page);
  slots_.push_front({key, std::move(entry), request_});
  by_key_.emplace(key, slots_.begin());
}

bool PrefixStore::make_room(std::int64_t num_bytes) {
  while (num_bytes_ + num_bytes > max_bytes_) {
    if (slots_.empty() || slots_.back().request == request_) return false;
    remove(std::prev(slots_.end()));
  }
  return true;
}

void PrefixStore::remove(Slots::iterator slot) {
  num_bytes_ -= bytes_of(slot->entry);
  for (const std::int32_t page : slot->entry.pages) store_.pool().free(page);
  by_key_.erase(slot->key);
  slots_.erase(slot);
}

void PrefixStore::clear() {
  while (!slots_.empty()) remove(slots_.begin());
}

std::int64_t PrefixStore::bytes_of(const Entry& entry) const {
  return static_cast<std::int64_t>(entry.pages.size()) * store_.page_bytes() +
         static_cast<std::int64_t>(entry.rows.size() * sizeof(float));
}

}  // namespace perpend
