#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "perpend/core/function_ref.h"
#include "perpend/mask/mask.h"
#include "perpend/models/differentiable_model.h"
#include "perpend/train/dataset.h"
#include "perpend/train/loss.h"

namespace perpend {

struct EvaluationOptions {
  std::int64_t batch_tokens = 1 << 17;    // that a pass holds at most
  std::vector<int> captured_layers = {};  // whose turned q and k a visitor reads
};

// Runs a model without gradients over all examples, in their order, and shows every batch to
// `visit`. `layer_masks`: one for each layer; names in them are labels of the data. Throws
// InvalidArgument for an example with more tokens than a batch holds and as training does.
void for_each_evaluated(const DifferentiableModel& model, std::shared_ptr<const Dataset> data,
                        std::vector<Mask> layer_masks, const EvaluationOptions& options,
                        FunctionRef<void(const LossInput& input)> visit);

// How well targets of positive weight were predicted.
struct TargetScore {
  std::int64_t count = 0;
  std::int64_t num_exact = 0;  // the likeliest token was the target
  double weight = 0.0;
  double loss_sum = 0.0;  // of cross-entropies times weights

  double loss() const { return weight > 0 ? loss_sum / weight : 0.0; }
  double exact_match() const {
    return count > 0 ? static_cast<double>(num_exact) / static_cast<double>(count) : 0.0;
  }
};

struct Evaluation {
  std::int64_t num_sequences = 0;
  std::int64_t num_tokens = 0;
  TargetScore all;
  std::map<std::int32_t, TargetScore> groups;  // none unless the data has the list "group"
};

// Scores one batch after another.
class TargetScorer {
 public:
  // The list "group" of the batch, if it has one, holds a number for each target of positive weight
  // of a sequence, in order. Throws InvalidArgument for one of another length.
  void add(const LossInput& input);

  const Evaluation& result() const { return result_; }

 private:
  Evaluation result_;
};

// `progress` is called with the tokens done.
Evaluation evaluate(const DifferentiableModel& model, std::shared_ptr<const Dataset> data,
                    std::vector<Mask> layer_masks, const EvaluationOptions& options,
                    FunctionRef<void(std::int64_t num_tokens)> progress);

}  // namespace perpend
