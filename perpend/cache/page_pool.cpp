#include "perpend/cache/page_pool.h"

#include <algorithm>

namespace perpend {

std::int32_t PagePool::allocate() {
  std::int32_t page = -1;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (next_ < capacity_) {
    page = next_++;
  }
  peak_ = std::max(peak_, num_used());
  return page;
}

void PagePool::free(std::int32_t page) { free_.push_back(page); }

}  // namespace perpend
