#pragma once

#include "perpend/io/tokenizer/aligned_text.h"

namespace perpend {

// Unicode normalization (UAX #15) by the data of utf8proc. A composed character has the origin of
// its first part, each part of a decomposed one the origin of the whole.
struct NormalForm {
  bool compatible = false;  // NFKD, NFKC
  bool composed = false;    // NFC, NFKC
};

void normalize(AlignedText& text, NormalForm form);

}  // namespace perpend
