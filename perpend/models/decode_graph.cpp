#include "perpend/models/decode_graph.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

Context with_workspace(const Context& context, Workspace& workspace) {
  return {.device = context.device,
          .type = context.type,
          .kernels = context.kernels,
          .stream = context.stream,
          .torch_stream = context.torch_stream,
          .workspace = &workspace,
          .schedules = context.schedules,
          .multiplies_few_rows = context.multiplies_few_rows};
}

PassSize with_room(PassSize size, std::int64_t max_tokens, std::int64_t page_size) {
  size.pages = ceil_div(max_tokens, page_size);
  return size;
}

const KvStore& store_of(const ForwardInput& input) {
  return input.sequences.front().sequence->store();
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

DecodeGraph::DecodeGraph(const LanguageModel& model, const ForwardInput& input,
                         std::int64_t max_tokens, const Context& context)
    : model_(model),
      store_(&store_of(input)),
      max_tokens_(max_tokens),
      workspace_(torch_device(context.device)),
      context_(with_workspace(context, workspace_)),
      spec_(attention_spec(input, context)),
      tiling_(context.kernels->attention.tiling(spec_, Sweep::kRows)),
      layer_masks_(input.layer_masks.begin(), input.layer_masks.end()),
      size_(with_room(size_of(input), max_tokens, store_->config().page_size)),
      pass_(size_, context) {
  require(context.kernels->capture, "captured decoding", *context.kernels);
  const DeviceScope device(context_);
  AttentionShape longest = attention_shape(input, model.config());
  for (SequenceShape& sequence : longest.sequences) {
    sequence.kv_len = max_tokens;
    sequence.q_offset = max_tokens - sequence.q_len;
  }
  std::vector<const AttentionPlan*> plan_of_layer;
  for (const Mask& mask : layer_masks_) {
    const auto known = std::find(masks_.begin(), masks_.end(), mask);
    const auto index = static_cast<std::size_t>(known - masks_.begin());
    if (known == masks_.end()) {
      masks_.push_back(mask);
      const PlanCapacity room =
          plan_capacity(spec_, compile(mask, longest, tiling_), context_.device);
      plans_.push_back(make_attention_plan(spec_, room, context_.device));
    }
    plan_of_layer.push_back(plans_[index].get());
  }
  pass_.set_plans(std::move(plan_of_layer));
}

bool DecodeGraph::takes(const ForwardInput& input) const {
  PassSize size = size_of(input);
  size.pages = size_.pages;
  const bool fits =
      std::all_of(input.sequences.begin(), input.sequences.end(),
                  [&](const KvRows& rows) { return rows.begin + rows.count <= max_tokens_; });
  return fits && input.runs_everything() && input.sequence_masks.empty() && size == size_ &&
         &store_of(input) == store_ &&
         std::equal(layer_masks_.begin(), layer_masks_.end(), input.layer_masks.begin());
}

torch::Tensor DecodeGraph::run(const ForwardInput& input) {
  const DeviceScope device(context_);
  model_.prepare(input);
  const AttentionShape shape = attention_shape(input, model_.config());
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    plans_[i]->update(compile(masks_[i], shape, tiling_), context_.stream);
  }
  pass_.assign(input, context_);
  if (graph_ == nullptr) {
    // Once as it is: libraries make what they keep, and the workspace grows to its size.
    launch();
    graph_ = context_.kernels->capture(context_.device, context_.stream, [&] { launch(); });
  }
  graph_->run(context_.stream);
  return logits_;
}

void DecodeGraph::launch() {
  logits_ = model_.run(pass_, context_);
  summarize_logits(logits_, summaries_, context_);
}

}  // namespace perpend
