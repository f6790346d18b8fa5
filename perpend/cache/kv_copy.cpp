#include "perpend/cache/kv_copy.h"

#include <cstring>

#include "perpend/core/error.h"
#include "perpend/core/range.h"

namespace perpend {
namespace {

void copy_page(const TensorView& from, std::int32_t from_page, const TensorView& to,
               std::int32_t to_page) {
  const std::size_t bytes = static_cast<std::size_t>(from.stride(0)) * size_of(from.dtype);
  std::memcpy(to.as<std::byte>() + static_cast<std::size_t>(to_page) * bytes,
              from.as<const std::byte>() + static_cast<std::size_t>(from_page) * bytes, bytes);
}

void check_alike(const KvStoreConfig& a, const KvStoreConfig& b) {
  check(a.num_layers == b.num_layers && a.num_kv_heads == b.num_kv_heads &&
            a.head_dim == b.head_dim && a.page_size == b.page_size && a.dtype == b.dtype,
        "KV copy: layers, heads, pages and dtypes of the two stores must be alike");
}

}  // namespace

void copy_pages(const KvSequence& from, KvPart part, KvSequence& to, std::int64_t to_begin) {
  const KvStoreConfig& config = from.store().config();
  check_alike(config, to.store().config());
  if (config.device.type != DeviceType::kCpu) {
    throw Unsupported("KV copy: pages on a GPU are not copied yet; run on the CPU");
  }
  check(part.begin % config.page_size == 0 && to_begin % config.page_size == 0,
        concat("KV copy: parts must begin with a page of ", config.page_size, " (", part.begin,
               " and ", to_begin, ")"));
  check(part.begin + part.count <= from.length() && to_begin + part.count <= to.length(),
        concat("KV copy: ", part.count, " tokens at ", part.begin, " to ", to_begin,
               " do not lie inside sequences of ", from.length(), " and ", to.length()));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const auto source = from.page_table(layer);
    const auto target = to.page_table(layer);
    for (std::int64_t i = 0; i < ceil_div(part.count, config.page_size); ++i) {
      const auto from_page = source[static_cast<std::size_t>(part.begin / config.page_size + i)];
      const auto to_page = target[static_cast<std::size_t>(to_begin / config.page_size + i)];
      check(from_page != KvSequence::kNoPage && to_page != KvSequence::kNoPage,
            concat("KV copy: a page of layer ", layer, " was freed"));
      copy_page(from.store().k_pages(), from_page, to.store().k_pages(), to_page);
      copy_page(from.store().v_pages(), from_page, to.store().v_pages(), to_page);
    }
  }
}

}  // namespace perpend
