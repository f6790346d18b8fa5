#include "perpend/cache/kv_batch.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {

KvLayerView KvBatch::layer(int index) {
  if (rows_.empty()) bug("KvBatch: no sequence");
  const KvStore& store = rows_.front().sequence->store();
  std::size_t max_pages = 0;
  for (const KvRows& rows : rows_) {
    max_pages = std::max(max_pages, rows.sequence->page_table(index).size());
  }
  page_table_.assign(rows_.size() * max_pages, KvSequence::kNoPage);
  slots_.clear();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const auto table = rows_[i].sequence->page_table(index);
    std::copy(table.begin(), table.end(),
              page_table_.begin() + static_cast<std::ptrdiff_t>(i * max_pages));
    for (std::int64_t row = 0; row < rows_[i].count; ++row) {
      slots_.push_back(rows_[i].sequence->slot(index, rows_[i].begin + row));
    }
  }
  return {
      store.k_pages(), store.v_pages(),
      TensorView::dense(
          page_table_.data(), DType::kI32,
          {static_cast<std::int64_t>(rows_.size()), static_cast<std::int64_t>(max_pages)}),
      TensorView::dense(slots_.data(), DType::kI64, {static_cast<std::int64_t>(slots_.size())})};
}

}  // namespace perpend
