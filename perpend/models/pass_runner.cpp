#include "perpend/models/pass_runner.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr std::int64_t kLeastTokens = 1024;

bool is_decoding(const ForwardInput& input) {
  return input.runs_everything() && input.sequence_masks.empty() &&
         input.logit_rows.size() == input.sequences.size() &&
         std::all_of(input.sequences.begin(), input.sequences.end(),
                     [](const KvRows& rows) { return rows.count == 1; });
}

// Room for sequences that grow: a graph is captured anew when it has to double.
std::int64_t room_for(const ForwardInput& input, std::int64_t context_length) {
  std::int64_t longest = kLeastTokens;
  for (const KvRows& rows : input.sequences) longest = std::max(longest, rows.begin + rows.count);
  const auto doubled =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(longest)));
  return std::min(doubled, std::max(longest, context_length));
}

}  // namespace

torch::Tensor PassRunner::run(const ForwardInput& input) {
  const torch::Tensor logits = run_on_device(input).logits;
  return logits.is_cpu() ? logits : on_host(logits, host_logits_);
}

std::span<const VocabularySummary> PassRunner::summarize(const ForwardInput& input) {
  return summaries_of(run_on_device(input));
}

std::span<const VocabularySummary> PassRunner::summaries_of(const Result& result) {
  const auto rows = static_cast<std::size_t>(result.logits.size(0));
  if (result.logits.is_cpu()) {
    summaries_.resize(rows);
    cpu_kernels().fused.vocabulary({view_of(result.logits), summaries_}, context_.stream);
    return summaries_;
  }
  const DeviceScope device(context_);
  torch::Tensor summaries = result.summaries;
  if (!summaries.defined()) summarize_logits(result.logits, summaries, context_);
  const torch::Tensor& host = on_host(summaries, host_summaries_);
  return {static_cast<const VocabularySummary*>(host.data_ptr()), rows};
}

void PassRunner::run(const ForwardInput& input, std::int32_t banned_token, LogitVisitor visit) {
  run(
      input, banned_token, 0, [](std::int64_t, std::span<const VocabularySummary>) {}, visit);
}

void PassRunner::summarize(const ForwardInput& input, std::int32_t banned_token,
                           SummaryVisitor visit) {
  run(input, banned_token, static_cast<std::int64_t>(input.logit_rows.size()), visit,
      [](std::int64_t, const torch::Tensor&) {});
}

void PassRunner::run(const ForwardInput& input, std::int32_t banned_token,
                     std::int64_t num_summaries, SummaryVisitor visit_summaries,
                     LogitVisitor visit_logits) {
  const auto hand_out = [&](std::int64_t first, const Result& result) {
    const std::int64_t count = result.logits.size(0);
    const std::int64_t split = std::clamp<std::int64_t>(num_summaries - first, 0, count);
    if (split > 0) {
      visit_summaries(first, summaries_of({result.logits.narrow(0, 0, split), result.summaries}));
    }
    if (split == count) return;
    const torch::Tensor logits = result.logits.narrow(0, split, count - split);
    visit_logits(first + split, logits.is_cpu() ? logits : on_host(logits, host_logits_));
  };
  if (is_captured(input) && banned_token == kNoToken) {
    hand_out(0, run_on_device(input));
    return;
  }
  visit_on_device(input, banned_token, [&](std::int64_t first, const torch::Tensor& logits) {
    hand_out(first, {logits, {}});
  });
}

void PassRunner::visit_on_device(ForwardInput input, std::int32_t banned_token,
                                 LogitVisitor visit) {
  const auto visit_allowed = [&](std::int64_t first, const torch::Tensor& logits) {
    if (banned_token != kNoToken) {
      logits.select(1, banned_token).fill_(-std::numeric_limits<float>::infinity());
    }
    visit(first, logits);
  };
  const LogitVisitor visitor(visit_allowed);
  input.visit_logits = &visitor;
  model_.forward(input, context_);
}

bool PassRunner::is_captured(const ForwardInput& input) const {
  return context_.captures_decoding && is_decoding(input);
}

PassRunner::Result PassRunner::run_on_device(const ForwardInput& input) {
  if (!is_captured(input)) return {model_.forward(input, context_), {}};
  if (graph_ == nullptr || !graph_->takes(input)) {
    graph_ = nullptr;  // its memory first
    graph_ = std::make_unique<DecodeGraph>(
        model_, input, room_for(input, model_.config().context_length), context_);
  }
  const torch::Tensor logits = graph_->run(input);
  return {logits, graph_->summaries()};
}

const torch::Tensor& PassRunner::on_host(const torch::Tensor& values, torch::Tensor& host) {
  const DeviceScope device(context_);
  if (!host.defined() || host.sizes() != values.sizes()) {
    host = torch::empty(values.sizes(), torch::dtype(values.scalar_type()).pinned_memory(true));
  }
  host.copy_(values, /*non_blocking=*/true);
  context_.torch_stream->synchronize();
  return host;
}

}  // namespace perpend
