#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "perpend/cache/block_keys.h"
#include "perpend/cache/kv_store.h"

namespace perpend {

// Keys and values of blocks that may be wanted again, beyond the sequence that made them: pages of
// a KvStore, shared by counting references, under the keys of what they depend on. What was used
// longest ago goes first when the limit is reached.
class PrefixStore {
 public:
  // A block in one layer.
  struct Entry {
    std::vector<std::int32_t> pages;  // [pages of a block]
    std::vector<float> rows;  // at the layer's input, [block rows, model_dim]; empty: not kept
  };

  // Borrows `store`, which must outlive it. `max_bytes` bounds pages and hidden rows together.
  PrefixStore(KvStore& store, std::int64_t max_bytes) : store_(store), max_bytes_(max_bytes) {}
  ~PrefixStore() { clear(); }
  PrefixStore(const PrefixStore&) = delete;
  PrefixStore& operator=(const PrefixStore&) = delete;

  // Begins a request. What it finds or adds stays until the next begins.
  void begin_request() { ++request_; }

  // Null when there is none. Valid until the next request begins.
  const Entry* find(const Digest& key);

  // Shares the pages of `entry`. Without effect where there is one of that key, which has the same
  // bits, and where there is no room beside what this request uses.
  void add(const Digest& key, Entry entry);

  void clear();

  std::int64_t num_bytes() const { return num_bytes_; }
  std::int64_t max_bytes() const { return max_bytes_; }
  std::size_t size() const { return slots_.size(); }

 private:
  struct Slot {
    Digest key;
    Entry entry;
    std::int64_t request = 0;  // that used it last
  };
  using Slots = std::list<Slot>;

  bool make_room(std::int64_t num_bytes);
  void remove(Slots::iterator slot);
  std::int64_t bytes_of(const Entry& entry) const;

  KvStore& store_;
  std::int64_t max_bytes_;
  std::int64_t num_bytes_ = 0;
  std::int64_t request_ = 0;
  Slots slots_;  // most recently used first
  std::unordered_map<Digest, Slots::iterator> by_key_;
};

}  // namespace perpend
