#pragma once

#include <vector>

#include "perpend/rank/block_ranker.h"
#include "perpend/train/dataset.h"
#include "perpend/train/ranking_metrics.h"

namespace perpend {

// Ranks prompts as block_rank_loss.h reads them with BlockRanker: what a user of the trained model
// gets. The answer is not read.
class OnePassRanking {
 public:
  // Borrows both. `layer`: whose attention ranks.
  OnePassRanking(const LanguageModel& network, Context& context, int layer);

  // Returns the scores of the documents. Throws InvalidArgument for a prompt without label "doc",
  // lists "signals" (rows in a row) and "positives", and for positions that are not BlockRanker's.
  std::vector<float> add(const TrainingSequence& prompt);

  const RankingQuality& quality() const { return quality_; }
  // Of each call so far, from tokens on the host to scores on the host.
  const std::vector<double>& milliseconds() const { return milliseconds_; }

 private:
  const LanguageModel& network_;
  Context& context_;
  int layer_;
  RankingQuality quality_;
  std::vector<double> milliseconds_;
};

}  // namespace perpend
