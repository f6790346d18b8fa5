#include "perpend/cache/kv_batch.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {

std::int64_t max_pages(std::span<const KvRows> batch) {
  std::size_t most = 0;
  for (const KvRows& rows : batch) most = std::max(most, rows.sequence->page_table(0).size());
  return static_cast<std::int64_t>(most);
}

void write_page_tables(std::span<const KvRows> batch, int layer, std::int64_t num_pages,
                       std::int32_t* to) {
  for (const KvRows& rows : batch) {
    const auto table = rows.sequence->page_table(layer);
    if (static_cast<std::int64_t>(table.size()) > num_pages) bug("KvBatch: a table is too long");
    std::fill(std::copy(table.begin(), table.end(), to), to + num_pages, KvSequence::kNoPage);
    to += num_pages;
  }
}

void write_slots(std::span<const KvRows> batch, int layer, std::span<const std::int32_t> places,
                 std::int64_t* to) {
  std::size_t next = 0;
  for (const KvRows& rows : batch) {
    for (std::int64_t row = 0; row < rows.count; ++row) {
      *to++ = rows.sequence->slot(layer, places.empty() ? rows.begin + row : places[next++]);
    }
  }
}

}  // namespace perpend
