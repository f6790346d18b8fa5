#include "perpend/models/elastic_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include <ATen/ops/from_blob.h>

#include "perpend/core/error.h"
#include "perpend/models/forward_pass.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

using Rows = std::vector<std::int32_t>;  // positions, ascending

Rows merged(const Rows& a, const Rows& b) {
  Rows both;
  std::ranges::set_union(a, b, std::back_inserter(both));
  return both;
}

// The place of each of `rows` in `all`.
Rows places_in(const Rows& all, const Rows& rows) {
  Rows places;
  for (const std::int32_t row : rows) {
    places.push_back(static_cast<std::int32_t>(std::ranges::lower_bound(all, row) - all.begin()));
  }
  return places;
}

Rows changed_rows(std::span<const std::int32_t> before, std::span<const std::int32_t> now) {
  Rows rows;
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (before[i] != now[i]) rows.push_back(static_cast<std::int32_t>(i));
  }
  return rows;
}

// Attention weights [num_q_heads, rows, keys] f32 of q [rows, num_q_heads, head_dim] over k
// [num_kv_heads, keys, head_dim].
torch::Tensor attention_weights(const torch::Tensor& q, const torch::Tensor& k) {
  const std::int64_t rows = q.size(0);
  const std::int64_t group = q.size(1) / k.size(0);
  const torch::Tensor grouped = q.to(torch::kFloat32)
                                    .reshape({rows, k.size(0), group, q.size(2)})
                                    .permute({1, 2, 0, 3})
                                    .reshape({k.size(0), group * rows, q.size(2)});
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  const torch::Tensor scores = torch::bmm(grouped, k.transpose(1, 2)).mul_(scale);
  return scores.softmax(-1).reshape({q.size(1), rows, k.size(1)});
}

// The mean cosine of vectors along `axis`; of two zeros it is one.
float mean_cosine(const torch::Tensor& a, const torch::Tensor& b, int axis) {
  const torch::Tensor dot = (a * b).sum(axis);
  const torch::Tensor norms = a.square().sum(axis).sqrt() * b.square().sum(axis).sqrt();
  return torch::where(norms > 0, dot / norms, torch::ones_like(dot)).mean().item<float>();
}

// One step.
class ElasticStep {
 public:
  ElasticStep(const LanguageModel& model, const LayerwiseModel& layers, const ElasticConfig& config,
              std::int32_t mask_token_id, ElasticState& state, const ForwardInput& input,
              Context& context)
      : model_(model),
        layers_(layers),
        elastic_(config),
        state_(state),
        input_(input),
        context_(context),
        num_layers_(model.config().num_layers),
        wanted_(input.logit_rows.begin(), input.logit_rows.end()),
        everything_(input.tokens.size()),
        trackable_(not_masked(mask_token_id)) {
    std::iota(everything_.begin(), everything_.end(), 0);
    std::ranges::sort(wanted_);
  }

  void run() {
    const bool first = state_.tokens.size() != input_.tokens.size();
    const bool refresh = first || elastic_.refreshes_always;
    if (first) forget();
    boundary_ = refresh ? 0 : num_layers_;
    const Rows changed = refresh ? Rows() : changed_rows(state_.tokens, input_.tokens);
    rows_ = refresh ? everything_ : merged(merged(state_.tracked, changed), wanted_);
    start(rows_);
    x_ = layers_.embed(*pass_, context_).clone();
    Rows tracked;
    for (int layer = 0; layer < num_layers_; ++layer) tracked = merged(tracked, run_layer(layer));
    state_.boundaries.push_back(boundary_);
    state_.tracked = std::move(tracked);
    state_.tokens.assign(input_.tokens.begin(), input_.tokens.end());
  }

  void visit_logits(LogitVisitor visit) { layers_.visit_logits(x_, *pass_, visit, context_); }

 private:
  bool computes_all() const { return rows_.size() == everything_.size(); }

  // 1 where a token may be tracked: those that are masked never are.
  torch::Tensor not_masked(std::int32_t mask_token_id) const {
    std::vector<float> values;
    for (const std::int32_t token : input_.tokens) {
      values.push_back(token == mask_token_id ? 0.0F : 1.0F);
    }
    return torch::tensor(values).to(torch_device(context_.device));
  }

  void forget() {
    state_ = {};
    const auto rows = static_cast<std::int64_t>(input_.tokens.size());
    for (int layer = 0; layer < num_layers_; ++layer) {
      state_.inputs.push_back(
          torch::empty({rows, model_.config().model_dim},
                       torch::dtype(torch::kFloat32).device(torch_device(context_.device))));
    }
  }

  torch::Tensor on_device(const Rows& rows) const {
    return torch::tensor(c10::ArrayRef<std::int32_t>(rows.data(), rows.size()), torch::kInt32)
        .to(torch_device(context_.device));
  }

  // Makes the pass of these rows the one that runs.
  void start(const Rows& rows) {
    tokens_.clear();
    ranges_.clear();
    const KvRows& all = input_.sequences.front();
    for (const std::int32_t row : rows) {
      tokens_.push_back(input_.tokens[static_cast<std::size_t>(row)]);
      if (!ranges_.empty() && ranges_.back().end() == row) {
        ++ranges_.back().count;
      } else {
        ranges_.push_back({all.sequence, row, 1, all.kv_len()});
      }
    }
    const Rows logit_rows = places_in(rows, {input_.logit_rows.begin(), input_.logit_rows.end()});
    const ForwardInput part{tokens_, ranges_, input_.layer_masks, logit_rows};
    model_.prepare(part);
    pass_.emplace(size_of(part), context_);
    pass_->assign(part, context_);
    pass_->set_schedules(part, model_.config(), context_);
  }

  // [num_kv_heads, canvas, head_dim] f32, a copy.
  torch::Tensor keys(int layer) const {
    const KvRows& rows = input_.sequences.front();
    const TensorView pages = rows.sequence->store().k_pages();
    const auto table = rows.sequence->page_table(layer);
    const torch::Tensor all = torch::from_blob(
        pages.data, {pages.size(0), pages.size(1), pages.size(2), pages.size(3)},
        {pages.stride(0), pages.stride(1), pages.stride(2), pages.stride(3)},
        torch::dtype(scalar_type_of(pages.dtype)).device(torch_device(pages.device)));
    return all.index_select(0, on_device({table.begin(), table.end()}))
        .flatten(0, 1)
        .narrow(0, 0, static_cast<std::int64_t>(everything_.size()))
        .permute({1, 0, 2})
        .to(torch::kFloat32)
        .contiguous();
  }

  // What a layer makes of the queries of `rows`, given its input [all rows or those of the pass].
  torch::Tensor queries(int layer, const torch::Tensor& x, const Rows& rows) const {
    return layers_.queries(layer, x, on_device(rows), context_);
  }

  // Runs a layer; returns the tokens that the wanted rows look at most.
  Rows run_layer(int layer) {
    const Workspace::Scope scope(*context_.workspace);
    torch::Tensor& inputs = state_.inputs[static_cast<std::size_t>(layer)];
    torch::Tensor before;  // of the tracked tokens
    if (!computes_all() && !state_.tracked.empty()) {
      before = attention_weights(
          queries(layer, inputs.index_select(0, on_device(state_.tracked)), state_.tracked),
          keys(layer));
    }
    inputs.index_copy_(0, on_device(rows_).to(torch::kInt64), x_);
    if (layer == boundary_ && !computes_all()) {
      rows_ = everything_;
      start(rows_);
      x_ = inputs.clone();
      before = torch::Tensor();
    }
    state_.num_layer_rows += static_cast<std::int64_t>(rows_.size());
    layers_.run_layer(layer, x_, *pass_, context_);
    const torch::Tensor k = keys(layer);
    const auto weights_of = [&](const Rows& rows) {
      return attention_weights(queries(layer, inputs.index_select(0, on_device(rows)), rows), k);
    };
    if (before.defined() && similarity(before, weights_of(state_.tracked)) < elastic_.gamma) {
      boundary_ = std::min(boundary_, layer + 1);
    }
    return most_attended(weights_of(wanted_));
  }

  float similarity(const torch::Tensor& before, const torch::Tensor& after) const {
    return mean_cosine(before, after,
                       elastic_.similarity == ElasticConfig::Similarity::kHeads ? 0 : 2);
  }

  Rows most_attended(const torch::Tensor& weights) const {
    const torch::Tensor scores = (weights.sum(at::IntArrayRef({0, 1})) * trackable_).cpu();
    const std::span<const float> values(scores.data_ptr<float>(), everything_.size());
    Rows best = everything_;
    const auto count =
        std::min<std::size_t>(static_cast<std::size_t>(elastic_.num_tracked), best.size());
    std::ranges::partial_sort(best, best.begin() + static_cast<std::ptrdiff_t>(count),
                              [&](std::int32_t a, std::int32_t b) {
                                const float x = values[static_cast<std::size_t>(a)];
                                const float y = values[static_cast<std::size_t>(b)];
                                return x != y ? x > y : a < b;
                              });
    best.resize(count);
    std::ranges::sort(best);
    return best;
  }

  const LanguageModel& model_;
  const LayerwiseModel& layers_;
  const ElasticConfig& elastic_;
  ElasticState& state_;
  const ForwardInput& input_;
  Context& context_;
  int num_layers_;
  Rows wanted_;
  Rows everything_;
  torch::Tensor trackable_;  // [canvas] f32
  int boundary_ = 0;
  Rows rows_;  // that run now
  torch::Tensor x_;
  std::vector<std::int32_t> tokens_;
  std::vector<KvRows> ranges_;
  std::optional<ForwardPass> pass_;
};

}  // namespace

ElasticModel::ElasticModel(const LanguageModel& model, const LayerwiseModel& layers,
                           const ElasticConfig& config, std::int32_t mask_token_id,
                           ElasticState& state)
    : model_(model),
      layers_(layers),
      elastic_(config),
      mask_token_id_(mask_token_id),
      state_(state) {
  check(std::isfinite(config.gamma),
        concat("elastic: gamma must be a number (", config.gamma, ")"));
  check(config.num_tracked > 0,
        concat("elastic: tracked tokens a layer must be positive (", config.num_tracked, ")"));
}

torch::Tensor ElasticModel::forward(const ForwardInput& input, Context& context) const {
  if (input.sequences.size() != 1 || input.sequences.front().begin != 0 ||
      input.visit_logits == nullptr) {
    bug("elastic: expected a pass over one whole canvas with a visitor");
  }
  const DeviceScope device(context);
  const Workspace::Scope scope(*context.workspace);
  ElasticStep step(model_, layers_, elastic_, mask_token_id_, state_, input, context);
  step.run();
  step.visit_logits(*input.visit_logits);
  return context.workspace->take({0, config().vocab_size});
}

}  // namespace perpend
