#include "perpend/models/decode_graph.h"

#include <algorithm>
#include <limits>

#include "perpend/core/error.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

const KvStore& store_of(const ForwardInput& input) {
  return input.sequences.front().sequence->store();
}

// The distinct masks of the layers, in the order in which they first come.
std::vector<std::vector<Mask>> distinct_masks(const ForwardInput& input,
                                              std::vector<int>& layer_plan) {
  std::vector<std::vector<Mask>> distinct;
  for (std::size_t layer = 0; layer < input.layer_masks.size(); ++layer) {
    std::vector<Mask> masks = masks_of_layer(input, layer);
    const auto known = std::ranges::find(distinct, masks);
    layer_plan.push_back(static_cast<int>(known - distinct.begin()));
    if (known == distinct.end()) distinct.push_back(std::move(masks));
  }
  return distinct;
}

bool has_room(const PlanCapacity& room, const PlanCapacity& wanted) {
  return wanted.items <= room.items && wanted.sums <= room.sums && wanted.steps <= room.steps &&
         wanted.sub_tiles <= room.sub_tiles && wanted.bitmaps <= room.bitmaps &&
         wanted.split_rows <= room.split_rows;
}

}  // namespace

void summarize_logits(const torch::Tensor& logits, torch::Tensor& summaries,
                      const Context& context) {
  const auto rows = static_cast<std::size_t>(logits.size(0));
  const auto bytes = static_cast<std::int64_t>(rows * sizeof(VocabularySummary));
  if (!summaries.defined() || summaries.numel() != bytes) {
    summaries = torch::empty({bytes}, torch::dtype(torch::kUInt8).device(logits.device()));
  }
  auto* out = static_cast<VocabularySummary*>(summaries.data_ptr());
  require(context.kernels->fused.vocabulary, "vocabulary", *context.kernels)(
      {view_of(logits), {out, rows}}, context.stream);
}

GraphKind kind_of(const ForwardInput& input, std::int64_t max_tokens, std::int32_t banned_token) {
  const KvStore& store = store_of(input);
  GraphKind kind{.k_pages = store.k_pages().data,
                 .q_lens = {},
                 .size = size_of(input),
                 .layer_plan = {},
                 .max_tokens = max_tokens,
                 .banned_token = banned_token};
  kind.size.pages = ceil_div(max_tokens, store.config().page_size);
  for (const KvRows& rows : input.sequences) kind.q_lens.push_back(rows.count);
  distinct_masks(input, kind.layer_plan);
  return kind;
}

DecodeGraph::DecodeGraph(const LanguageModel& model, const ForwardInput& input,
                         const GraphKind& kind, Workspace& workspace, const Context& context)
    : model_(model),
      kind_(kind),
      context_(with_workspace(context, workspace)),
      spec_(attention_spec(input, context)),
      tiling_(context.kernels->attention.tiling(spec_, Sweep::kRows)),
      pass_(kind.size, context),
      launches_([this] { launch(); }) {
  const KernelTable& kernels = *context.kernels;
  require(kernels.capture, "captured decoding", kernels);
  const auto make_plan = require(kernels.attention.make_plan, "attention plan", kernels);
  const DeviceScope device(context_);
  std::vector<int> layer_plan;
  masks_ = distinct_masks(input, layer_plan);
  const AttentionShape longest = longest_shape(input);
  for (const Masks& masks : masks_) {
    rooms_.push_back(room_for(masks, longest));
    plans_.push_back(make_plan(spec_, rooms_.back(), context_.device));
  }
  std::vector<const AttentionPlan*> plan_of_layer;
  for (const int plan : layer_plan) {
    plan_of_layer.push_back(plans_[static_cast<std::size_t>(plan)].get());
  }
  pass_.set_plans(std::move(plan_of_layer));
}

AttentionShape DecodeGraph::longest_shape(const ForwardInput& input) const {
  AttentionShape longest = attention_shape(input, model_.config());
  for (SequenceShape& sequence : longest.sequences) {
    sequence.kv_len = kind_.max_tokens;
    sequence.q_offset = kind_.max_tokens - sequence.q_len;
  }
  return longest;
}

PlanCapacity DecodeGraph::room_for(const Masks& masks, const AttentionShape& longest) const {
  return require(context_.kernels->attention.plan_capacity, "attention plan", *context_.kernels)(
      spec_, compile(masks, longest, tiling_));
}

bool DecodeGraph::takes_masks(const ForwardInput& input) {
  std::vector<int> layer_plan;
  std::vector<Masks> masks = distinct_masks(input, layer_plan);
  if (masks == masks_) return true;
  const AttentionShape longest = longest_shape(input);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    if (masks[i] != masks_[i] && !has_room(rooms_[i], room_for(masks[i], longest))) return false;
  }
  masks_ = std::move(masks);
  planned_.reset();
  return true;
}

void DecodeGraph::run(const ForwardInput& input) {
  const DeviceScope device(context_);
  model_.prepare(input);
  update_plans(input);
  pass_.assign(input, context_);
  if (graph_ == nullptr) {
    // Once as it is: libraries make what they keep, and the workspace grows to its size.
    launch();
    memory_ = context_.workspace->memory();
    graph_ = context_.kernels->capture(context_.device, context_.stream, launches_);
  }
  graph_->run(context_.stream);
}

// Steps that fill one block have one shape, so that only the first of them plans.
void DecodeGraph::update_plans(const ForwardInput& input) {
  const AttentionShape shape = attention_shape(input, model_.config());
  if (planned_ == shape) return;
  planned_.reset();
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    plans_[i]->update(compile(masks_[i], shape, tiling_), context_.stream);
  }
  planned_ = shape;
}

void DecodeGraph::launch() {
  if (!summaries_.defined()) {
    const auto bytes = static_cast<std::int64_t>(sizeof(VocabularySummary));
    summaries_ = torch::empty({kind_.size.logit_rows * bytes},
                              torch::dtype(torch::kUInt8).device(torch_device(context_.device)));
  }
  logits_.reset();
  const auto take = [&](std::int64_t first, const torch::Tensor& logits) {
    if (kind_.banned_token != kNoToken) {
      logits.select(1, kind_.banned_token).fill_(-std::numeric_limits<float>::infinity());
    }
    constexpr auto kBytes = static_cast<std::int64_t>(sizeof(VocabularySummary));
    torch::Tensor part = summaries_.narrow(0, first * kBytes, logits.size(0) * kBytes);
    summarize_logits(logits, part, context_);
    // Behind the logits nothing is taken from the workspace.
    if (logits.size(0) == kind_.size.logit_rows) logits_ = logits;
  };
  const LogitVisitor visit(take);
  model_.run(pass_, &visit, context_);
}

}  // namespace perpend
