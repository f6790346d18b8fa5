#include "perpend/models/elastic_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "perpend/core/error.h"
#include "perpend/models/elastic_drift.h"
#include "perpend/models/pass_graphs.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

using Rows = std::vector<std::int32_t>;  // positions, ascending

// Rows that are captured come in multiples of so many, so that few sizes of them exist.
constexpr std::int64_t kFilledRows = 16;

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

// One step.
class ElasticStep {
 public:
  ElasticStep(const LanguageModel& model, const LayerwiseModel& layers, const ElasticConfig& config,
              std::int32_t mask_token_id, ElasticState& state, const ForwardInput& input,
              Context& context)
      : model_(model),
        layers_(layers),
        elastic_(config),
        mask_token_id_(mask_token_id),
        state_(state),
        input_(input),
        context_(context),
        sequence_(*input.sequences.front().sequence),
        num_layers_(model.config().num_layers),
        wanted_(input.logit_rows.begin(), input.logit_rows.end()),
        everything_(input.tokens.size()) {
    std::iota(everything_.begin(), everything_.end(), 0);
    std::ranges::sort(wanted_);
  }

  void run() {
    const bool is_first = state_.tokens.size() != input_.tokens.size();
    if (is_first) forget();
    boundary_ = is_first || elastic_.refreshes_always ? 0 : num_layers_;
    if (boundary_ > 0 && elastic_.replay.boundary)
      replayed_ = elastic_.replay.boundary(num_layers_);
    if (replayed_ == 0) boundary_ = 0;
    start_drift();
    if (boundary_ > 0) reuse();
    if (boundary_ < num_layers_) refresh();
    state_.boundaries.push_back(boundary_);
    state_.tracked = elastic_.replay.tracked.empty() ? tracked_ : elastic_.replay.tracked;
    state_.tokens.assign(input_.tokens.begin(), input_.tokens.end());
  }

  void visit_logits(LogitVisitor visit) {
    layers_.visit_logits(running_->x(), running_->pass(), visit, context_);
  }

 private:
  void forget() {
    state_ = {};
    const ModelConfig& config = model_.config();
    const std::int64_t rows = std::ssize(input_.tokens);
    const auto of_type = [&](torch::ScalarType type) {
      return torch::dtype(type).device(torch_device(context_.device));
    };
    state_.kept = {
        torch::empty({num_layers_, rows, config.model_dim}, of_type(torch::kFloat32)),
        torch::empty({num_layers_, rows, std::int64_t{config.num_q_heads} * config.head_dim},
                     of_type(context_.type))};
  }

  void start_drift() {
    const ModelConfig& config = model_.config();
    drift_.queries = state_.kept.queries.unflatten(2, {config.num_q_heads, config.head_dim});
    drift_.window = on_device(wanted_, context_);
    drift_.page_tables = page_tables(sequence_, context_);
    drift_.k_pages = sequence_.store().k_pages();
    drift_.by_keys = elastic_.similarity == ElasticConfig::Similarity::kKeys;
  }

  // What the rows that are computed anew were before.
  void keep_old(const Rows& rows) {
    if (state_.tracked.empty()) return;
    drift_.tracked = on_device(state_.tracked, context_);
    drift_.old_queries = drift_.queries.index_select(1, drift_.tracked);
    drift_.old_keys = keys_of_rows(sequence_, rows, context_);
    drift_.changed = on_device(rows, context_);
  }

  // All layers with few rows, until drift is too large.
  void reuse() {
    const Rows changed = changed_rows(state_.tokens, input_.tokens);
    const Rows rows = merged(merged(state_.tracked, changed), wanted_);
    keep_old(rows);
    start(rows);
    std::optional<LayerDrift> before;
    for (int first = 0; first < num_layers_; first += elastic_.layers_together) {
      const int end = std::min(first + elastic_.layers_together, num_layers_);
      running_->run({first, end});
      LayerDrift drift = measure({first, end});
      if (before && finds_boundary(*before)) break;
      before = std::move(drift);
    }
    if (boundary_ == num_layers_) finds_boundary(*before);
    state_.num_layer_rows += boundary_ * std::ssize(rows);
  }

  // All rows, from the boundary on.
  void refresh() {
    drift_.old_queries = torch::Tensor();
    start(everything_);
    if (boundary_ > 0) running_->x() = state_.kept.inputs[boundary_].clone();
    running_->run({boundary_, num_layers_});
    LayerDrift drift = measure({boundary_, num_layers_});
    drift.wait();
    for (int layer = boundary_; layer < num_layers_; ++layer) {
      tracked_ = merged(tracked_, most_attended(drift.attended(layer)));
    }
    state_.num_layer_rows += (num_layers_ - boundary_) * std::ssize(everything_);
  }

  LayerDrift measure(Range layers) {
    for (int i = 1; i < elastic_.replay.num_measurements; ++i) {
      LayerDrift(drift_, layers, context_);
    }
    return {drift_, layers, context_};
  }

  // Takes over what the layers tell; whether one of them is the last that keeps what it has.
  bool finds_boundary(LayerDrift& drift) {
    drift.wait();
    for (auto layer = static_cast<int>(drift.layers().begin); layer < drift.layers().end; ++layer) {
      tracked_ = merged(tracked_, most_attended(drift.attended(layer)));
      const bool drifted = drift_.old_queries.defined() && drift.similarity(layer) < elastic_.gamma;
      if (elastic_.replay.boundary ? replayed_ == layer + 1 : drifted) {
        boundary_ = layer + 1;
        return true;
      }
    }
    return false;
  }

  // Makes these rows those that run.
  void start(const Rows& rows) {
    const bool are_few = rows.size() < everything_.size() &&
                         std::ssize(rows) <= PassGraphs::kMostRowsOfSequence - kFilledRows;
    const bool captures = are_few && context_.captures_decoding;
    Rows places = rows;
    if (captures || (are_few && context_.device.type != DeviceType::kCpu)) {
      // The last row again, which writes what it writes once more. Launches do the same, so that
      // both have the same bits.
      const std::int64_t filled =
          std::min(round_up(std::ssize(rows), kFilledRows), std::ssize(everything_));
      places.resize(static_cast<std::size_t>(filled), rows.back());
    }
    Rows tokens;
    for (const std::int32_t place : places) {
      tokens.push_back(input_.tokens[static_cast<std::size_t>(place)]);
    }
    const std::int64_t canvas = input_.sequences.front().kv_len();
    const KvRows counted{&sequence_, canvas - std::ssize(places), std::ssize(places), canvas};
    const Rows logit_rows = places_in(rows, {input_.logit_rows.begin(), input_.logit_rows.end()});
    ForwardInput part{tokens, {&counted, 1}, input_.layer_masks, logit_rows};
    part.places = places;
    running_ = captures ? captured_rows(part) : nullptr;
    if (running_ == nullptr) {
      launched_ =
          std::make_unique<ElasticRows>(model_, layers_, part, state_.kept, context_, false);
      running_ = launched_.get();
    }
    running_->start(part);
  }

  ElasticRows* captured_rows(const ForwardInput& part) {
    std::unique_ptr<ElasticRows>& rows = state_.rows[std::ssize(part.tokens)];
    if (rows == nullptr) {
      rows = std::make_unique<ElasticRows>(model_, layers_, part, state_.kept, context_, true);
    }
    return rows.get();
  }

  // Those that are masked never are.
  Rows most_attended(std::span<const float> attended) const {
    std::vector<float> values(attended.begin(), attended.end());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (input_.tokens[i] == mask_token_id_) values[i] = 0;
    }
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
  std::int32_t mask_token_id_;
  ElasticState& state_;
  const ForwardInput& input_;
  Context& context_;
  const KvSequence& sequence_;
  int num_layers_;
  Rows wanted_;
  Rows everything_;
  std::optional<int> replayed_;
  int boundary_ = 0;
  Rows tracked_;  // for the next step
  DriftOperands drift_;
  std::unique_ptr<ElasticRows> launched_;
  ElasticRows* running_ = nullptr;
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
  check(config.layers_together > 0,
        concat("elastic: layers together must be positive (", config.layers_together, ")"));
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
