#pragma once

#include <memory>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/models/language_model.h"
#include "perpend/models/pass_graphs.h"

namespace perpend {

// Runs the passes of a loop, wherever the model lies: those of a few rows that come again as
// captured graphs where the context says so, everything else launch by launch; logits come to the
// host.
class PassRunner {
 public:
  // Borrows both.
  PassRunner(const LanguageModel& model, Context& context)
      : model_(model), context_(context), graphs_(model, context) {}

  // As LanguageModel::forward(), but the logits are in memory of the host, and may be changed.
  torch::Tensor run(const ForwardInput& input);
  // Of the same logits only what greedy decoding needs, [logit_rows], valid until the next call: a
  // few bytes a row come from a GPU.
  std::span<const VocabularySummary> summarize(const ForwardInput& input);

  // The same a few rows at a time, each call with those from `first` on: memory does not grow with
  // the rows. `banned_token` never comes out: its logit is made -inf; kNoToken: none is.
  static constexpr std::int32_t kNoToken = perpend::kNoToken;
  void run(const ForwardInput& input, std::int32_t banned_token, LogitVisitor visit);
  using SummaryVisitor =
      FunctionRef<void(std::int64_t first, std::span<const VocabularySummary> rows)>;
  void summarize(const ForwardInput& input, std::int32_t banned_token, SummaryVisitor visit);
  // Of one pass both: summaries of the first `num_summaries` wanted rows, logits of the others.
  void run(const ForwardInput& input, std::int32_t banned_token, std::int64_t num_summaries,
           SummaryVisitor visit_summaries, LogitVisitor visit_logits);

  const PassGraphs& graphs() const { return graphs_; }

 private:
  // Null where it is to run launch by launch, or would make logits a part at a time.
  DecodeGraph* graph_with_logits(const ForwardInput& input, std::int32_t banned_token);
  // Hands over chunks on the device without the banned token.
  void visit_on_device(ForwardInput input, std::int32_t banned_token, LogitVisitor visit);
  // The wanted rows, of steps that fill a block as many as few graphs are enough for.
  std::vector<std::int32_t> filled_rows(const ForwardInput& input) const;
  // The first `count`, on the host.
  std::span<const VocabularySummary> summaries_on_host(const torch::Tensor& summaries,
                                                       std::int64_t count);
  std::span<const VocabularySummary> summaries_of(const torch::Tensor& logits);
  // A copy in pinned memory that is kept in `host`; what the host has already is not copied.
  const torch::Tensor& on_host(const torch::Tensor& values, torch::Tensor& host);

  const LanguageModel& model_;
  Context& context_;
  PassGraphs graphs_;
  torch::Tensor host_logits_;     // pinned
  torch::Tensor host_summaries_;  // pinned
  std::vector<VocabularySummary> summaries_;
};

}  // namespace perpend
