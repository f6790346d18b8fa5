#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "perpend/models/forward_pass.h"

namespace perpend {

// A VocabularySummary of each row of logits [rows, vocab_size] f32 on a GPU: their bytes, u8, in
// its memory; in `summaries` if that has the size.
void summarize_logits(const torch::Tensor& logits, torch::Tensor& summaries,
                      const Context& context);

// What passes have in common that one captured graph may run.
struct GraphKind {
  const void* k_pages = nullptr;  // of the store
  std::vector<std::int64_t> q_lens;
  PassSize size;                // with page tables of max_tokens
  std::vector<int> layer_plan;  // of each layer: which of the distinct masks it has
  std::int64_t max_tokens = 0;  // keys of a sequence
  std::int32_t banned_token = kNoToken;

  friend bool operator==(const GraphKind&, const GraphKind&) = default;
};

GraphKind kind_of(const ForwardInput& input, std::int64_t max_tokens, std::int32_t banned_token);

// Passes of one kind on a GPU, such as the steps of a decode loop or those that fill a block:
// captured once as a CUDA graph and then launched by one call each, whatever their tokens,
// positions, pages and lengths are. These lie in memory that stays in its place and is written
// before each launch: one copy for all arrays and one for each distinct mask, whose schedule an
// AttentionPlan holds; what is there already is not written again. Every launch of the graph is the
// one that the pass alone would make, so that results have the same bits.
class DecodeGraph {
 public:
  // For inputs like `input`, which is of `kind`. Borrows the model. Activations lie in `workspace`,
  // which other graphs may use too: what it has for this one stays alive with it. Throws
  // Unsupported where the device has no graphs or no plans.
  DecodeGraph(const LanguageModel& model, const ForwardInput& input, const GraphKind& kind,
              Workspace& workspace, const Context& context);
  DecodeGraph(const DecodeGraph&) = delete;
  DecodeGraph& operator=(const DecodeGraph&) = delete;

  const GraphKind& kind() const { return kind_; }
  // Whether the plans have room for the masks of `input`, which is of the kind; they are then those
  // of the next call.
  bool takes_masks(const ForwardInput& input);

  // Runs what takes_masks() was asked about. The first call captures.
  void run(const ForwardInput& input);

  // Of the last call, until any graph of the workspace runs again. The banned token has -inf.
  // Logits [logit_rows, vocab_size] f32 on the device, if these are not more than
  // most_logit_rows():
  const std::optional<torch::Tensor>& logits() const { return logits_; }
  const torch::Tensor& summaries() const { return summaries_; }  // see summarize_logits()

 private:
  using Masks = std::vector<Mask>;

  AttentionShape longest_shape(const ForwardInput& input) const;
  PlanCapacity room_for(const Masks& masks, const AttentionShape& longest) const;
  void update_plans(const ForwardInput& input);
  void launch();

  const LanguageModel& model_;
  GraphKind kind_;
  Context context_;
  AttentionSpec spec_;
  Tiling tiling_;
  std::vector<Masks> masks_;  // the distinct ones; of each its room and its plan
  std::vector<PlanCapacity> rooms_;
  std::vector<std::unique_ptr<AttentionPlan>> plans_;
  std::optional<AttentionShape> planned_;  // what the plans hold
  ForwardPass pass_;
  std::optional<torch::Tensor> logits_;
  torch::Tensor summaries_;
  std::vector<torch::Tensor> memory_;  // of the workspace
  std::function<void()> launches_;     // what is captured
  std::unique_ptr<CapturedGraph> graph_;
};

}  // namespace perpend
