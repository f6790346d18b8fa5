#include "perpend/cache/kv_store.h"

#include <limits>

#include "perpend/core/error.h"
#include "perpend/core/range.h"

namespace perpend {
namespace {

// One more page a layer than the tokens need: the last page of a sequence is rarely full.
std::int32_t page_capacity(const KvStoreConfig& config) {
  check(config.num_layers > 0 && config.num_kv_heads > 0 && config.head_dim > 0 &&
            config.page_size > 0 && config.max_tokens > 0,
        "KV store: layers, kv heads, head_dim, page_size and max_tokens must be positive");
  check(config.dtype == DType::kF32 || config.dtype == DType::kF16 || config.dtype == DType::kBF16,
        concat("KV store: dtype must be f32, f16 or bf16 (", config.dtype, ")"));
  const std::int64_t pages =
      config.max_pages > 0
          ? config.max_pages
          : (ceil_div(config.max_tokens, config.page_size) + 1) * config.num_layers;
  check(pages <= std::numeric_limits<std::int32_t>::max(),
        concat("KV store: too many pages (", pages, ")"));
  return static_cast<std::int32_t>(pages);
}

std::size_t half_page_bytes(const KvStoreConfig& config) {
  return static_cast<std::size_t>(config.page_size) *
         static_cast<std::size_t>(config.num_kv_heads) * static_cast<std::size_t>(config.head_dim) *
         size_of(config.dtype);
}

}  // namespace

KvStore::KvStore(const KvStoreConfig& config)
    : config_(config),
      pool_(page_capacity(config)),
      k_memory_(half_page_bytes(config) * static_cast<std::size_t>(pool_.capacity()),
                config.device),
      v_memory_(half_page_bytes(config) * static_cast<std::size_t>(pool_.capacity()),
                config.device) {}

std::int64_t KvStore::page_bytes() const {
  return 2 * static_cast<std::int64_t>(half_page_bytes(config_));
}

TensorView KvStore::pages_view(const PageMemory& memory) const {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t head_stride = config_.page_size * dim;
  TensorView view;
  view.data = memory.data();
  view.dtype = config_.dtype;
  view.device = config_.device;
  view.shape = {pool_.capacity(), config_.page_size, config_.num_kv_heads, dim};
  view.strides = {head_stride * config_.num_kv_heads, dim, head_stride, 1};
  return view;
}

}  // namespace perpend
