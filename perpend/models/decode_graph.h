#pragma once

#include <memory>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/models/forward_pass.h"

namespace perpend {

// A VocabularySummary of each row of logits [rows, vocab_size] f32 on a GPU: their bytes, u8, in
// its memory; in `summaries` if that has the size.
void summarize_logits(const torch::Tensor& logits, torch::Tensor& summaries,
                      const Context& context);

// Passes of one size on a GPU, such as the steps of a decode loop: captured once as a CUDA graph
// and then launched by one call each, whatever their tokens, positions, pages and lengths are.
// These lie in memory that stays in its place and is written before each launch: one copy for all
// arrays and one for each distinct mask, whose schedule an AttentionPlan holds. Every launch of the
// graph is the one that the pass alone would make, so that results have the same bits.
class DecodeGraph {
 public:
  // For inputs like `input`, whose sequences may grow to `max_tokens` tokens each. Borrows the
  // model. Throws Unsupported where the device has no graphs or no plans.
  DecodeGraph(const LanguageModel& model, const ForwardInput& input, std::int64_t max_tokens,
              const Context& context);

  // Whether `input` has the store, masks and size, and no sequence that is too long.
  bool takes(const ForwardInput& input) const;

  // As LanguageModel::forward(): [logit_rows, vocab_size] f32 on the device, valid until the next
  // call. The first call captures.
  torch::Tensor run(const ForwardInput& input);
  // Of the logits of the last call, which the graph makes with them: see summarize_logits().
  const torch::Tensor& summaries() const { return summaries_; }

 private:
  void launch();

  const LanguageModel& model_;
  const KvStore* store_;
  std::int64_t max_tokens_;
  Workspace workspace_;  // its own: the memory of the graph must not be given away
  Context context_;
  AttentionSpec spec_;
  Tiling tiling_;
  std::vector<Mask> layer_masks_;
  std::vector<Mask> masks_;  // the distinct ones, and the plan of each
  std::vector<std::unique_ptr<AttentionPlan>> plans_;
  PassSize size_;
  ForwardPass pass_;
  torch::Tensor logits_;
  torch::Tensor summaries_;
  std::unique_ptr<CapturedGraph> graph_;
};

}  // namespace perpend
