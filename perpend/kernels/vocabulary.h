#pragma once

#include <cstdint>
#include <span>

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// What a sampler needs to know of a row of logits, in one pass over the vocabulary.
struct VocabularySummary {
  std::int32_t argmax = 0;  // the lowest index among equals
  float max = 0.0F;
  float logsumexp = 0.0F;  // natural; f64 sum inside
};

// One summary for each row of logits [rows, vocab_size] f32, rows independent of each other.
struct VocabularyArgs {
  TensorView logits;
  std::span<VocabularySummary> out;  // [rows]
};

}  // namespace perpend
