#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>

#include "perpend/kernels/block_attention.h"

namespace perpend {

// What plans from lists of blocks share, by spec and device, least recently used first to go. Safe
// to use from several threads.
class BlockTableCache {
 public:
  explicit BlockTableCache(std::size_t capacity = 32) : capacity_(capacity) {}

  // What make_block_attention_tables() of the same arguments returns, and throws.
  std::shared_ptr<const BlockAttentionTables> get(const BlockAttentionSpec& spec, Device device);

 private:
  std::shared_ptr<const BlockAttentionTables> find(const BlockAttentionSpec& spec, Device device);

  std::size_t capacity_;
  std::mutex mutex_;
  std::list<std::shared_ptr<const BlockAttentionTables>> entries_;  // most recently used first
};

// The one of a process.
BlockTableCache& block_table_cache();

}  // namespace perpend
