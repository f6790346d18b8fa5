#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/cache/kv_store.h"
#include "perpend/core/range.h"

namespace perpend {

// The cached keys of one sequence: a page table per layer over a shared store. Positions are
// absolute and never move; a page that was released leaves a hole (-1) in its table.
class KvSequence {
 public:
  static constexpr std::int32_t kNoPage = PagePool::kNone;

  // Borrows `store`, which must outlive it.
  explicit KvSequence(KvStore& store);
  ~KvSequence();
  KvSequence(const KvSequence&) = delete;
  KvSequence& operator=(const KvSequence&) = delete;

  // Tokens with a place in the cache, whether already written or not.
  std::int64_t length() const { return length_; }

  // Makes room for `count` more tokens in every layer. False, and nothing changed, when the store
  // has no page left.
  bool append(std::int64_t count);

  // The same with pages in the layers of `layers` alone and holes in all others. Only whole pages:
  // length() and `count` must be multiples of the page size.
  bool append_pages(std::int64_t count, Range layers);

  // Fills the hole at `page_index` of `layer` with a page of the same store, which it shares: its
  // bytes must not be written any more.
  void share_page(int layer, std::int64_t page_index, std::int32_t page);

  // Forgets all tokens from `new_length` on (provisional ones), in every layer.
  void truncate(std::int64_t new_length);

  // Frees the page that holds keys [page * page_size, (page + 1) * page_size) of `layer`.
  void release_page(int layer, std::int64_t page);

  // Page of each page_size keys of `layer`, kNoPage where it was released.
  std::span<const std::int32_t> page_table(int layer) const;

  // page * page_size + row in page of the token at `position`. Its page must be held.
  std::int64_t slot(int layer, std::int64_t position) const;

  KvStore& store() const { return store_; }
  // K and V bytes of the pages that this sequence holds.
  std::int64_t held_bytes() const { return num_held_ * store_.page_bytes(); }
  // The same as if no page had been released.
  std::int64_t exact_bytes() const;

 private:
  bool add_page(std::vector<std::int32_t>& table);
  std::vector<std::int32_t>& table(int layer) { return tables_[static_cast<std::size_t>(layer)]; }
  void free_page(std::int32_t& page);

  KvStore& store_;
  std::int64_t length_ = 0;
  std::int64_t num_held_ = 0;
  std::vector<std::vector<std::int32_t>> tables_;  // [layer][page index]
};

}  // namespace perpend
