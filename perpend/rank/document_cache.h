#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include <torch/types.h>

#include "perpend/cache/kv_copy.h"

namespace perpend {

// Keys and values of blocks that no query changes, found by their tokens: the hash finds the place,
// equality decides. Least recently used blocks go first.
class DocumentCache {
 public:
  struct Entry {
    explicit Entry(KvStore& store) : kv(store) {}

    std::vector<std::int32_t> tokens;
    KvSequence kv;       // of the layers that run
    torch::Tensor keys;  // [tokens, num_kv_heads, head_dim] f32 of the scoring layer, turned
  };

  // `config.max_tokens` is what it may hold, counted in whole pages a block.
  explicit DocumentCache(const KvStoreConfig& config) : store_(config) {}

  // Null when the block is not held. Valid until the next add() or clear().
  const Entry* find(const std::vector<std::int32_t>& tokens);
  // Copies a block that find() does not know. A block that is too long to be held is not.
  void add(const std::vector<std::int32_t>& tokens, const KvSequence& from, std::int64_t begin,
           const torch::Tensor& keys);
  void clear();

  std::size_t size() const { return entries_.size(); }

 private:
  using Entries = std::list<Entry>;

  Entries::iterator place_of(const std::vector<std::int32_t>& tokens, std::size_t hash);

  KvStore store_;
  Entries entries_;  // most recently used first
  std::unordered_multimap<std::size_t, Entries::iterator> by_hash_;
};

}  // namespace perpend
