#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <torch/types.h>

#include "perpend/models/elastic_rows.h"
#include "perpend/models/language_model.h"
#include "perpend/models/layerwise_model.h"

namespace perpend {

// What a step does instead of what drift says, to time it with weights that mean nothing. Drift is
// measured all the same.
struct ElasticReplay {
  // From which layer on a step computes all rows, of so many layers; that number: from none.
  std::function<int(int num_layers)> boundary;
  std::vector<std::int32_t> tracked;  // rows that are tracked from the second step on
  int num_measurements = 1;           // how often drift is measured: more, to know what it takes
};

// Elastic-Cache, arXiv:2510.14973, section 2: of a canvas with full attention only some rows are
// computed anew, until the attention of the tokens that are looked at most changes; then all rows
// are, from the next layer on.
struct ElasticConfig {
  // Of the attention of a tracked token before and after a step, the mean of cosines.
  enum class Similarity {
    kHeads,  // of the weights of all heads, for each key (the authors' code)
    kKeys,   // of the weights of all keys, for each head (the paper)
  };

  float gamma = 0.9F;   // least similarity at which deeper layers keep what they have
  int num_tracked = 1;  // tokens a layer
  Similarity similarity = Similarity::kHeads;
  bool refreshes_always = false;  // every step computes everything, as without a cache
  // Layers whose drift is measured together. The host asks for it when the next of them are under
  // way, so that a GPU never waits; where drift was too large, those ran in vain.
  int layers_together = 8;
  ElasticReplay replay = {};
};

// What lies between two steps of one canvas, and what was done.
struct ElasticState {
  ElasticRows::Kept kept;                                     // as last computed
  std::map<std::int64_t, std::unique_ptr<ElasticRows>> rows;  // that are captured, by their number
  std::vector<std::int32_t> tokens;                           // of the last step
  std::vector<std::int32_t> tracked;                          // positions, ascending
  std::vector<int> boundaries;      // of each step: the first layer that computed all rows
  std::int64_t num_layer_rows = 0;  // rows that layers computed and not in vain
};

// A network whose passes over a whole canvas, one after another, compute little of it: rows whose
// token changed, rows whose logits are wanted, tracked tokens. One canvas, whose state is handed
// in.
class ElasticModel final : public LanguageModel {
 public:
  // Borrows all but the config. `model` must be `layers` too. Throws InvalidArgument for a gamma
  // that is no number, less than one tracked token and less than one layer together.
  ElasticModel(const LanguageModel& model, const LayerwiseModel& layers,
               const ElasticConfig& config, std::int32_t mask_token_id, ElasticState& state);

  const ModelConfig& config() const override { return model_.config(); }
  std::size_t num_bytes() const override { return model_.num_bytes(); }
  // `input`: one sequence from its first token on, all rows, with a visitor of logits. The first
  // pass of a state computes everything.
  torch::Tensor forward(const ForwardInput& input, Context& context) const override;

 private:
  const LanguageModel& model_;
  const LayerwiseModel& layers_;
  ElasticConfig elastic_;
  std::int32_t mask_token_id_;
  ElasticState& state_;
};

}  // namespace perpend
