#include "perpend/models/elastic_rows.h"

#include <algorithm>

#include "perpend/models/elastic_drift.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// How many logits a step wants changes while its rows are filled up to one number.
PassSize size_for(const ForwardInput& input, bool captures) {
  PassSize size = size_of(input);
  if (captures) size.logit_rows = size.rows;
  return size;
}

}  // namespace

ElasticRows::ElasticRows(const LanguageModel& model, const LayerwiseModel& layers,
                         const ForwardInput& input, const Kept& kept, Context& context,
                         bool captures)
    : model_(model),
      layers_(layers),
      kept_(kept),
      captures_(captures),
      workspace_(torch_device(context.device)),
      own_(captures ? std::optional(with_workspace(context, workspace_)) : std::nullopt),
      context_(captures ? *own_ : context),
      pass_(std::in_place, size_for(input, captures), context_) {
  if (captures) make_plan(input);
}

// One for all layers and steps: under the mask `all` a schedule knows no places.
void ElasticRows::make_plan(const ForwardInput& input) {
  const AttentionTable& attention = context_.kernels->attention;
  const AttentionSpec spec = attention_spec(input, context_);
  const Schedule schedule =
      compile(input.layer_masks.front(), attention_shape(input, model_.config()),
              attention.tiling(spec, Sweep::kRows));
  const auto capacity = require(attention.plan_capacity, "attention plan", *context_.kernels);
  const auto make = require(attention.make_plan, "attention plan", *context_.kernels);
  plan_ = make(spec, capacity(spec, schedule), context_.device);
  plan_->update(schedule, context_.stream);
  pass_->set_plans(std::vector<const AttentionPlan*>(input.layer_masks.size(), plan_.get()));
}

void ElasticRows::start(const ForwardInput& input) {
  const Workspace::Scope scope(*context_.workspace);
  model_.prepare(input);
  pass_->assign(input, context_);
  const torch::Tensor places = on_device(input.places, context_);
  if (!captures_) {
    pass_->set_schedules(input, model_.config(), context_);
    places_ = places.to(torch::kInt64);
    x_ = layers_.embed(*pass_, context_).clone();
    return;
  }
  if (!x_.defined()) {
    x_ = torch::empty({std::ssize(input.tokens), kept_.inputs.size(2)}, kept_.inputs.options());
    places_ = torch::empty({std::ssize(input.places)}, places.options().dtype(torch::kInt64));
  }
  places_.copy_(places);
  x_.copy_(layers_.embed(*pass_, context_));
}

void ElasticRows::run(Range layers) {
  if (!captures_) return launch(layers);
  const auto known = std::ranges::find_if(
      parts_, [&](const std::unique_ptr<Part>& part) { return part->layers == layers; });
  if (known == parts_.end()) {
    // Libraries make what they keep, and the workspace grows to its size.
    launch(layers);
    parts_.push_back(std::make_unique<Part>(
        Part{.layers = layers, .graph = nullptr, .launches = [this, layers] { launch(layers); }}));
    return;
  }
  Part& part = **known;
  if (part.graph == nullptr) {
    part.graph = context_.kernels->capture(context_.device, context_.stream, part.launches);
  }
  part.graph->run(context_.stream);
}

void ElasticRows::launch(Range layers) {
  for (auto layer = static_cast<int>(layers.begin); layer < layers.end; ++layer) {
    // Activations of a layer may take the place of those of the layer before.
    const Workspace::Scope scope(*context_.workspace);
    kept_.inputs[layer].index_copy_(0, places_, x_);
    layers_.run_layer(layer, x_, *pass_, {kept_.queries[layer], places_}, context_);
  }
}

}  // namespace perpend
