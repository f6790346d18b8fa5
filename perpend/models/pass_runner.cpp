#include "perpend/models/pass_runner.h"

#include <algorithm>
#include <bit>

#include "perpend/nn/device_scope.h"

namespace perpend {
namespace {

constexpr std::int64_t kLeastTokens = 1024;

bool is_decoding(const ForwardInput& input) {
  return input.logit_rows.size() == input.sequences.size() &&
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
  const torch::Tensor logits = run_on_device(input);
  return logits.is_cpu() ? logits : on_host(logits);
}

torch::Tensor PassRunner::run_on_device(const ForwardInput& input) {
  if (!context_.captures_decoding || !is_decoding(input)) return model_.forward(input, context_);
  if (graph_ == nullptr || !graph_->takes(input)) {
    graph_ = nullptr;  // its memory first
    graph_ = std::make_unique<DecodeGraph>(
        model_, input, room_for(input, model_.config().context_length), context_);
  }
  return graph_->run(input);
}

torch::Tensor PassRunner::on_host(const torch::Tensor& logits) {
  const DeviceScope device(context_);
  if (!host_logits_.defined() || host_logits_.sizes() != logits.sizes()) {
    host_logits_ = torch::empty(logits.sizes(), torch::dtype(torch::kFloat32).pinned_memory(true));
  }
  host_logits_.copy_(logits, /*non_blocking=*/true);
  context_.torch_stream->synchronize();
  return host_logits_;
}

}  // namespace perpend
