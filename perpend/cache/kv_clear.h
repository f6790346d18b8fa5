#pragma once

#include "perpend/cache/kv_sequence.h"

namespace perpend {

// Makes the keys and values of all pages that the sequence holds zeros, and returns when they are:
// what is masked is multiplied too, so that no page may be handed on that holds what is not finite.
// None of them may be shared or in use by a kernel.
void clear_pages(const KvSequence& sequence);

}  // namespace perpend
