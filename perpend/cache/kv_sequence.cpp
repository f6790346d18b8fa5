#include "perpend/cache/kv_sequence.h"

#include "perpend/core/error.h"
#include "perpend/core/range.h"

namespace perpend {

KvSequence::KvSequence(KvStore& store)
    : store_(store), tables_(static_cast<std::size_t>(store.config().num_layers)) {}

KvSequence::~KvSequence() { truncate(0); }

bool KvSequence::append(std::int64_t count) {
  const std::int64_t old_length = length_;
  const auto num_pages =
      static_cast<std::size_t>(ceil_div(old_length + count, store_.config().page_size));
  length_ = old_length + count;
  for (auto& table : tables_) {
    while (table.size() < num_pages) {
      if (!add_page(table)) {
        truncate(old_length);
        return false;
      }
    }
  }
  return true;
}

bool KvSequence::append_pages(std::int64_t count, Range layers) {
  const std::int64_t page_size = store_.config().page_size;
  if (length_ % page_size != 0 || count % page_size != 0) {
    bug(concat("KV cache: ", count, " tokens after ", length_, " are no whole pages"));
  }
  const std::int64_t old_length = length_;
  length_ += count;
  for (int layer = 0; layer < store_.config().num_layers; ++layer) {
    for (std::int64_t page = 0; page < count / page_size; ++page) {
      if (!layers.contains(layer)) {
        table(layer).push_back(kNoPage);
      } else if (!add_page(table(layer))) {
        truncate(old_length);
        return false;
      }
    }
  }
  return true;
}

void KvSequence::share_page(int layer, std::int64_t page_index, std::int32_t page) {
  std::int32_t& hole = table(layer)[static_cast<std::size_t>(page_index)];
  if (hole != kNoPage) bug(concat("KV cache: layer ", layer, " has a page ", page_index));
  store_.pool().add_reference(page);
  hole = page;
  ++num_held_;
}

bool KvSequence::add_page(std::vector<std::int32_t>& table) {
  const std::int32_t page = store_.pool().allocate();
  if (page == kNoPage) return false;
  table.push_back(page);
  ++num_held_;
  return true;
}

void KvSequence::truncate(std::int64_t new_length) {
  const auto num_pages = static_cast<std::size_t>(ceil_div(new_length, store_.config().page_size));
  for (auto& table : tables_) {
    while (table.size() > num_pages) {
      free_page(table.back());
      table.pop_back();
    }
  }
  length_ = new_length;
}

void KvSequence::release_page(int layer, std::int64_t page) {
  free_page(table(layer)[static_cast<std::size_t>(page)]);
}

std::span<const std::int32_t> KvSequence::page_table(int layer) const {
  return tables_[static_cast<std::size_t>(layer)];
}

std::int64_t KvSequence::slot(int layer, std::int64_t position) const {
  const std::int64_t page_size = store_.config().page_size;
  const std::int32_t page = page_table(layer)[static_cast<std::size_t>(position / page_size)];
  if (page == kNoPage) bug(concat("KV cache: layer ", layer, " position ", position, " was freed"));
  return page * page_size + position % page_size;
}

std::int64_t KvSequence::exact_bytes() const {
  const KvStoreConfig& config = store_.config();
  return config.num_layers * ceil_div(length_, config.page_size) * store_.page_bytes();
}

void KvSequence::free_page(std::int32_t& page) {
  if (page == kNoPage) return;
  store_.pool().free(page);
  page = kNoPage;
  --num_held_;
}

}  // namespace perpend
