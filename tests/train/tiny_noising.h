#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "perpend/train/masked_token_loss.h"
#include "perpend/train/noised_copies.h"
#include "perpend/train/noising.h"
#include "tests/train/tiny_training.h"

namespace perpend {

using Attention = DiffusionAttention;

inline constexpr std::array kAttentions = {Attention::kBlock, Attention::kContextCausal,
                                           Attention::kFull};
inline constexpr std::int32_t kMaskToken = TinyModel::kVocabSize - 1;

// A question of weight 0, then an answer of weight 1, without the mask token.
inline TrainingSequence answered_text(std::int64_t prompt, std::int64_t answer,
                                      std::uint64_t seed) {
  Random random(seed);
  TrainingSequence text;
  for (std::int64_t i = 0; i < prompt + answer; ++i) {
    text.tokens.push_back(static_cast<std::int32_t>(random.next_below(kMaskToken)));
    text.weights.push_back(i < prompt ? 0.0F : 1.0F);
  }
  return text;
}

inline std::vector<TrainingSequence> answered_texts() {
  return {answered_text(3, 9, 31), answered_text(5, 11, 32), answered_text(1, 7, 33),
          answered_text(4, 4, 34), answered_text(2, 14, 35)};
}

// Blocks of 4.
inline NoisingOptions small_diffusion(Attention attention, int views) {
  NoisingOptions options;
  options.attention = attention;
  options.block_size = {.first = 4, .last = 4};
  options.mask_token_id = kMaskToken;
  options.views = views;
  if (attention == Attention::kFull) options.noise_unit = NoisingOptions::NoiseUnit::kSequence;
  options.clean_targets = attention == Attention::kContextCausal;
  options.seed = 7;
  return options;
}

inline TrainingSequence noised(const TrainingSequence& text, const NoisingOptions& options,
                               std::int64_t number = 0, std::int64_t step = 0) {
  return NoisedCopies(options).apply(text, {.number = number, .step = step});
}

// What row q of [views noised copies; clean copy] sees, as section 2.3 of Fast-dLLM v2 and 2.1 of
// NBDiff write it for one view.
struct DiffusionFormula {
  Attention attention;
  std::int64_t length;
  std::int64_t block_size;
  int views;

  std::int64_t num_rows() const {
    return length * (views + (attention == Attention::kFull ? 0 : 1));
  }
  std::int64_t copy(std::int64_t row) const { return row / length; }
  bool is_clean(std::int64_t row) const { return copy(row) == views; }
  std::int64_t position(std::int64_t row) const { return row % length; }
  std::int64_t block(std::int64_t row) const { return position(row) / block_size; }

  bool visible(std::int64_t q, std::int64_t k) const {
    if (attention == Attention::kFull) return copy(q) == copy(k);
    if (!is_clean(q) && !is_clean(k)) return copy(q) == copy(k) && block(q) == block(k);
    if (!is_clean(q)) return block(k) < block(q);
    if (!is_clean(k)) return false;
    return attention == Attention::kContextCausal ? position(k) <= position(q)
                                                  : block(k) <= block(q);
  }
};

}  // namespace perpend
