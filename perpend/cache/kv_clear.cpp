#include "perpend/cache/kv_clear.h"

#include <cstring>

#include "perpend/kernels/table.h"

namespace perpend {
namespace {

void clear_page(const TensorView& pages, std::int32_t page) {
  const std::size_t bytes = static_cast<std::size_t>(pages.stride(0)) * size_of(pages.dtype);
  std::byte* data = pages.as<std::byte>() + static_cast<std::size_t>(page) * bytes;
  if (pages.device.type == DeviceType::kCpu) {
    std::memset(data, 0, bytes);
  } else {
    kernels_for(pages.device).memory.clear(data, bytes);
  }
}

}  // namespace

void clear_pages(const KvSequence& sequence) {
  const KvStore& store = sequence.store();
  for (int layer = 0; layer < store.config().num_layers; ++layer) {
    for (const std::int32_t page : sequence.page_table(layer)) {
      if (page == KvSequence::kNoPage) continue;
      clear_page(store.k_pages(), page);
      clear_page(store.v_pages(), page);
    }
  }
}

}  // namespace perpend
