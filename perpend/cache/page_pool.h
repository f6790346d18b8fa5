#pragma once

#include <cstdint>
#include <vector>

namespace perpend {

// Hands out page ids, which several owners may share; knows nothing of memory. Freed ids are handed
// out again, last freed first, so that the memory in use stays the memory already touched.
class PagePool {
 public:
  static constexpr std::int32_t kNone = -1;

  explicit PagePool(std::int32_t capacity) : capacity_(capacity) {}

  // A page id below capacity() with one reference, or kNone when all are taken.
  std::int32_t allocate();
  void add_reference(std::int32_t page);
  // Takes one reference away; without any the page is free.
  void free(std::int32_t page);
  std::int32_t num_references(std::int32_t page) const {
    return references_[static_cast<std::size_t>(page)];
  }

  std::int32_t capacity() const { return capacity_; }
  std::int32_t num_used() const { return next_ - static_cast<std::int32_t>(free_.size()); }
  std::int32_t peak_used() const { return peak_; }
  void reset_peak() { peak_ = num_used(); }

 private:
  std::int32_t capacity_;
  std::int32_t next_ = 0;
  std::int32_t peak_ = 0;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> references_;  // [pages ever handed out]
};

}  // namespace perpend
