#pragma once

#include <torch/types.h>

#include "perpend/models/language_model.h"

namespace perpend {

class ForwardPass;
struct KeptRows;

// A network whose pass is taken apart, for callers that decide layer by layer which rows run. A
// ForwardPass of the rows stands for them; LanguageModel::prepare() of its input comes first.
class LayerwiseModel {
 public:
  virtual ~LayerwiseModel() = default;

  // The rows at the input of the first layer: [rows, model_dim] f32, in the workspace.
  virtual torch::Tensor embed(const ForwardPass& pass, Context& context) const = 0;
  // Takes x [rows, model_dim] f32 through a layer, in place, and writes its keys and values and
  // what is kept of its rows.
  virtual void run_layer(int layer, const torch::Tensor& x, const ForwardPass& pass,
                         const KeptRows& kept, Context& context) const = 0;
  // Of the pass's logit rows of x, behind the last layer; as ForwardInput::visit_logits.
  virtual void visit_logits(const torch::Tensor& x, const ForwardPass& pass, LogitVisitor visit,
                            Context& context) const = 0;
};

}  // namespace perpend
