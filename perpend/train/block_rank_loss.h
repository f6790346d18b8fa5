#pragma once

#include <string>
#include <vector>

#include "perpend/train/loss.h"

namespace perpend {

// Attention from the signal rows of a prompt to its documents, as a ranking (arXiv:2510.05396,
// section 3.3). The batch has
//   label "doc"        block of each token: 0 the instruction, 1 to N the documents, N + 1 the
//   query list "signals"     rows of the sequence that score, as many in each list "positives"
//   documents that answer, at least one, from 1
// With z = q k / sqrt(head_dim) of one layer's turned q and k, alpha = softmax of z over all
// document tokens, S_n = mean over signal rows and q heads of the sum of alpha over document n:
//   loss = logsumexp_n(S_n / tau) - logsumexp_{n positive}(S_n / tau), the mean over prompts.
class BlockRankLoss final : public Loss {
 public:
  BlockRankLoss(int layer, double tau) : layer_(layer), tau_(tau) {}

  std::string name() const override { return "blockrank"; }
  std::vector<int> captured_layers() const override { return {layer_}; }
  double count(const PackedBatch& batch) const override;
  torch::Tensor sum(const LossInput& input) const override;

 private:
  int layer_;
  double tau_;
};

// S [prompts, most documents of a prompt] of the batch, f32 (f64 with f64); 0 behind a prompt's
// last document. Throws InvalidArgument for a batch without the labels and lists above.
torch::Tensor block_rank_scores(const RotatedHeads& heads, const PackedBatch& batch);

}  // namespace perpend
