#pragma once

#include <memory>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/models/decode_graph.h"
#include "perpend/models/language_model.h"

namespace perpend {

// Runs the passes of a loop, wherever the model lies: single tokens of sequences as a captured
// graph where the context says so, everything else launch by launch; logits come to the host.
class PassRunner {
 public:
  // Borrows both.
  PassRunner(const LanguageModel& model, Context& context) : model_(model), context_(context) {}

  // As LanguageModel::forward(), but the logits are in memory of the host, and may be changed.
  torch::Tensor run(const ForwardInput& input);
  // Of the same logits only what greedy decoding needs, [logit_rows], valid until the next call: a
  // few bytes a row come from a GPU.
  std::span<const VocabularySummary> summarize(const ForwardInput& input);

  // The same a few rows at a time, each call with those from `first` on: memory does not grow with
  // the rows. `banned_token` never comes out: its logit is made -inf; kNoToken: none is.
  static constexpr std::int32_t kNoToken = -1;
  void run(const ForwardInput& input, std::int32_t banned_token, LogitVisitor visit);
  using SummaryVisitor =
      FunctionRef<void(std::int64_t first, std::span<const VocabularySummary> rows)>;
  void summarize(const ForwardInput& input, std::int32_t banned_token, SummaryVisitor visit);
  // Of one pass both: summaries of the first `num_summaries` wanted rows, logits of the others.
  void run(const ForwardInput& input, std::int32_t banned_token, std::int64_t num_summaries,
           SummaryVisitor visit_summaries, LogitVisitor visit_logits);

 private:
  // Logits [logit_rows, vocab_size], and where they were captured with them their summaries.
  struct Result {
    torch::Tensor logits;
    torch::Tensor summaries;  // [logit_rows * bytes] u8
  };

  Result run_on_device(const ForwardInput& input);
  bool is_captured(const ForwardInput& input) const;
  // Hands over chunks on the device without the banned token.
  void visit_on_device(ForwardInput input, std::int32_t banned_token, LogitVisitor visit);
  std::span<const VocabularySummary> summaries_of(const Result& result);
  // A copy in pinned memory that is kept in `host`.
  const torch::Tensor& on_host(const torch::Tensor& values, torch::Tensor& host);

  const LanguageModel& model_;
  Context& context_;
  std::unique_ptr<DecodeGraph> graph_;
  torch::Tensor host_logits_;     // pinned
  torch::Tensor host_summaries_;  // pinned
  std::vector<VocabularySummary> summaries_;
};

}  // namespace perpend
