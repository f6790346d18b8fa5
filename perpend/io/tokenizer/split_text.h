#pragma once

#include <vector>

#include "perpend/io/tokenizer/aligned_text.h"
#include "perpend/io/tokenizer/text_pattern.h"

namespace perpend {

// What becomes of the places a pattern matches; of "a--b", matched at each dash:
enum class SplitBehavior {
  kRemoved,             // a b
  kIsolated,            // a - - b
  kMergedWithPrevious,  // a- - b
  kMergedWithNext,      // a - -b
  kContiguous,          // a -- b
};

struct SplitRule {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // split at what the pattern does not match
};

// Cuts every word of `text` by `rule`; empty words are dropped.
void split_words(SplitText& text, const SplitRule& rule);

}  // namespace perpend
