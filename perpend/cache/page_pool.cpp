#include "perpend/cache/page_pool.h"

#include <algorithm>

namespace perpend {

std::int32_t PagePool::allocate() {
  std::int32_t page = kNone;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (next_ < capacity_) {
    page = next_++;
    references_.push_back(0);
  }
  if (page != kNone) references_[static_cast<std::size_t>(page)] = 1;
  peak_ = std::max(peak_, num_used());
  return page;
}

void PagePool::add_reference(std::int32_t page) { ++references_[static_cast<std::size_t>(page)]; }

void PagePool::free(std::int32_t page) {
  if (--references_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace perpend
