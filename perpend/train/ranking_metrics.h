#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "perpend/train/loss.h"

namespace perpend {

// How well rankings put an answering document first: over many lists, how often it is first, and
// the mean of 1 / its rank, 0 behind the tenth (P@1 and MRR@10).
class RankingQuality {
 public:
  // One list: a score for each document, and the answers among them, from 1. Of equal scores the
  // earlier document is first. Throws InvalidArgument for a score that is no number, no answers,
  // and one that is not in the list.
  void add(std::span<const float> scores, std::span<const std::int32_t> answers);

  std::int64_t num_lists() const { return num_lists_; }
  double p_at_1() const { return first_ / static_cast<double>(num_lists_); }
  double mrr_at_10() const { return reciprocal_ / static_cast<double>(num_lists_); }

 private:
  std::int64_t num_lists_ = 0;
  double first_ = 0;
  double reciprocal_ = 0;
};

// Rankings of the documents of prompts as block_rank_loss.h reads them, two ways:
//   attention  block_rank_scores() of `layer`
//   answer     logits behind the last signal for the tokens of list "ids", the name of each
//              document. With names of one token this is the order of a beam search over them.
class RankingMetrics {
 public:
  explicit RankingMetrics(int layer) : layer_(layer) {}

  int layer() const { return layer_; }
  // `input.captured` has the layer. Throws InvalidArgument for a batch without what is read.
  void add(const LossInput& input);

  const RankingQuality& attention() const { return attention_; }
  // Empty where the data has no list "ids".
  const RankingQuality& answer() const { return answer_; }
  // How often the likeliest token of all behind the last signal names an answer: greedy decoding.
  double greedy() const { return greedy_ / static_cast<double>(answer_.num_lists()); }

 private:
  void add_answers(const LossInput& input);

  int layer_;
  RankingQuality attention_;
  RankingQuality answer_;
  double greedy_ = 0;
};

}  // namespace perpend
