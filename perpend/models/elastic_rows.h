#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "perpend/core/range.h"
#include "perpend/models/forward_pass.h"
#include "perpend/models/layerwise_model.h"

namespace perpend {

// Some rows of a canvas on their way through the layers of a network, which keep the rows' inputs
// and queries.
class ElasticRows {
 public:
  // Where the layers keep them: [layers, canvas, model_dim] f32 and [layers, canvas, num_q_heads *
  // head_dim] of the type of the context. Both stay where they are.
  struct Kept {
    torch::Tensor inputs;
    torch::Tensor queries;
  };

  // For passes with as many rows and keys as `input`, which has places. Borrows the networks and
  // the context. `captures`: each range of layers is captured when it runs for the second time, and
  // memory is the rows' own; else passes are launched, as any size of them may be.
  ElasticRows(const LanguageModel& model, const LayerwiseModel& layers, const ForwardInput& input,
              const Kept& kept, Context& context, bool captures);
  ElasticRows(const ElasticRows&) = delete;
  ElasticRows& operator=(const ElasticRows&) = delete;

  // Takes over the rows of a step; x() is then their embedding.
  void start(const ForwardInput& input);
  // Through layers [begin, end), from x() to x().
  void run(Range layers);

  torch::Tensor& x() { return x_; }  // [rows, model_dim] f32
  const ForwardPass& pass() const { return *pass_; }

 private:
  struct Part {
    Range layers;
    std::unique_ptr<CapturedGraph> graph;  // null as long as it ran once only
    std::function<void()> launches;
  };

  void make_plan(const ForwardInput& input);
  void launch(Range layers);

  const LanguageModel& model_;
  const LayerwiseModel& layers_;
  Kept kept_;
  bool captures_;
  Workspace workspace_;         // of what is captured
  std::optional<Context> own_;  // the same
  Context& context_;
  std::unique_ptr<AttentionPlan> plan_;
  std::optional<ForwardPass> pass_;
  torch::Tensor x_;
  torch::Tensor places_;  // [rows] i64
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace perpend
