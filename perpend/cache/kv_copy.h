#pragma once

#include <cstdint>

#include "perpend/cache/kv_sequence.h"

namespace perpend {

// A part of a sequence that begins with a page.
struct KvPart {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

// Copies the keys and values of `part` of `from`, in all layers, to where `to_begin` of `to` is,
// whole pages at a time. Both begins are multiples of the page size, the pages are held, and the
// stores differ in nothing but their capacity; throws InvalidArgument otherwise.
void copy_pages(const KvSequence& from, KvPart part, KvSequence& to, std::int64_t to_begin);

}  // namespace perpend
