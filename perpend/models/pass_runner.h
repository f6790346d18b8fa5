#pragma once

#include <memory>

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

 private:
  torch::Tensor run_on_device(const ForwardInput& input);
  torch::Tensor on_host(const torch::Tensor& logits);

  const LanguageModel& model_;
  Context& context_;
  std::unique_ptr<DecodeGraph> graph_;
  torch::Tensor host_logits_;  // pinned
};

}  // namespace perpend
