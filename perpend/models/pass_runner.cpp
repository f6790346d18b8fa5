#include "perpend/models/pass_runner.h"

#include <algorithm>
#include <bit>

#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr std::int64_t kLeastTokens = 1024;

bool is_decoding(const ForwardInput& input) {
  return input.runs_everything() && input.logit_rows.size() == input.sequences.size() &&
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
  Result result = run_on_device(input);
  const auto rows = static_cast<std::size_t>(result.logits.size(0));
  if (result.logits.is_cpu()) {
    summaries_.resize(rows);
    cpu_kernels().fused.vocabulary({view_of(result.logits), summaries_}, context_.stream);
    return summaries_;
  }
  const DeviceScope device(context_);
  if (!result.summaries.defined()) {
    summarize_logits(result.logits, result.summaries, context_);
  }
  const torch::Tensor& host = on_host(result.summaries, host_summaries_);
  return {static_cast<const VocabularySummary*>(host.data_ptr()), rows};
}

PassRunner::Result PassRunner::run_on_device(const ForwardInput& input) {
  if (!context_.captures_decoding || !is_decoding(input)) {
    return {model_.forward(input, context_), {}};
  }
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
