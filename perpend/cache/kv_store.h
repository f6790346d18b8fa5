#pragma once

#include <cstdint>

#include "perpend/cache/page_memory.h"
#include "perpend/cache/page_pool.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

struct KvStoreConfig {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int page_size = 64;           // keys a page
  DType dtype = DType::kF16;    // f32, f16 or bf16
  std::int64_t max_tokens = 0;  // tokens that all sequences together may hold at once
  Device device = {};           // where the pages lie
  // Pages of all layers together; 0: enough for max_tokens in every layer, which masks that let
  // pages go do not need.
  std::int64_t max_pages = 0;
};

// The one owner of K and V memory: pages of page_size keys of all kv heads of one layer. Which page
// belongs to which layer of which sequence is in the page tables of KvSequence.
class KvStore {
 public:
  // Throws InvalidArgument for sizes that are not positive or a dtype that is not a float of <= 32
  // bit, and what PageMemory throws.
  explicit KvStore(const KvStoreConfig& config);

  const KvStoreConfig& config() const { return config_; }

  // [num_pages, page_size, num_kv_heads, head_dim]; within a page each head's rows lie together.
  TensorView k_pages() const { return pages_view(k_memory_); }
  TensorView v_pages() const { return pages_view(v_memory_); }

  PagePool& pool() { return pool_; }
  const PagePool& pool() const { return pool_; }

  // K and V bytes of one page, of all pages in use, and of the most that were ever in use.
  std::int64_t page_bytes() const;
  std::int64_t used_bytes() const { return page_bytes() * pool_.num_used(); }
  std::int64_t peak_bytes() const { return page_bytes() * pool_.peak_used(); }

 private:
  TensorView pages_view(const PageMemory& memory) const;

  KvStoreConfig config_;
  PagePool pool_;
  PageMemory k_memory_;
  PageMemory v_memory_;
};

}  // namespace perpend
