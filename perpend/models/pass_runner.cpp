#include "perpend/models/pass_runner.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr std::size_t kLeastFilledRows = 8;

ForwardInput with_rows(ForwardInput input, std::span<const std::int32_t> logit_rows) {
  input.logit_rows = logit_rows;
  return input;
}

}  // namespace

torch::Tensor PassRunner::run(const ForwardInput& input) {
  DecodeGraph* graph = graph_with_logits(input, kNoToken);
  if (graph == nullptr) return on_host(model_.forward(input, context_), host_logits_);
  graph->run(input);
  return on_host(*graph->logits(), host_logits_);
}

DecodeGraph* PassRunner::graph_with_logits(const ForwardInput& input, std::int32_t banned_token) {
  const bool comes_at_once = std::ssize(input.logit_rows) <= most_logit_rows(context_.device);
  return comes_at_once ? graphs_.find(input, banned_token) : nullptr;
}

std::span<const VocabularySummary> PassRunner::summarize(const ForwardInput& input) {
  DecodeGraph* graph = graphs_.find(input, kNoToken);
  if (graph == nullptr) return summaries_of(model_.forward(input, context_));
  graph->run(input);
  return summaries_on_host(graph->summaries(), std::ssize(input.logit_rows));
}

void PassRunner::run(const ForwardInput& input, std::int32_t banned_token, LogitVisitor visit) {
  run(
      input, banned_token, 0, [](std::int64_t, std::span<const VocabularySummary>) {}, visit);
}

void PassRunner::summarize(const ForwardInput& input, std::int32_t banned_token,
                           SummaryVisitor visit) {
  run(input, banned_token, std::ssize(input.logit_rows), visit,
      [](std::int64_t, const torch::Tensor&) {});
}

void PassRunner::run(const ForwardInput& input, std::int32_t banned_token,
                     std::int64_t num_summaries, SummaryVisitor visit_summaries,
                     LogitVisitor visit_logits) {
  const std::vector<std::int32_t> rows = filled_rows(input);
  const ForwardInput filled = with_rows(input, rows);
  const auto wanted = std::ssize(input.logit_rows);
  DecodeGraph* graph = num_summaries < wanted ? graph_with_logits(filled, banned_token)
                                              : graphs_.find(filled, banned_token);
  if (graph != nullptr) {
    graph->run(filled);
    if (num_summaries > 0) {
      visit_summaries(0, summaries_on_host(graph->summaries(), num_summaries));
    }
    if (num_summaries < wanted) {
      const torch::Tensor logits =
          graph->logits()->narrow(0, num_summaries, wanted - num_summaries);
      visit_logits(num_summaries, on_host(logits, host_logits_));
    }
    return;
  }
  visit_on_device(filled, banned_token, [&](std::int64_t first, const torch::Tensor& logits) {
    const std::int64_t count = std::clamp<std::int64_t>(wanted - first, 0, logits.size(0));
    const std::int64_t split = std::clamp<std::int64_t>(num_summaries - first, 0, count);
    if (split > 0) visit_summaries(first, summaries_of(logits.narrow(0, 0, split)));
    if (split == count) return;
    visit_logits(first + split, on_host(logits.narrow(0, split, count - split), host_logits_));
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

// A graph has a number of rows, and that of a block shrinks step by step; the last row again is not
// looked at. Launches do the same, so that both have the same bits.
std::vector<std::int32_t> PassRunner::filled_rows(const ForwardInput& input) const {
  std::vector<std::int32_t> rows(input.logit_rows.begin(), input.logit_rows.end());
  const bool has_graphs = context_.device.type != DeviceType::kCpu || context_.captures_decoding;
  const bool fills = has_graphs && model_.is_capturable() && PassGraphs::repeats(input);
  if (!fills || rows.size() <= input.sequences.size()) return rows;
  const std::size_t filled = std::max(kLeastFilledRows, std::bit_ceil(rows.size()));
  rows.resize(std::min(filled, input.tokens.size()), rows.back());
  return rows;
}

std::span<const VocabularySummary> PassRunner::summaries_of(const torch::Tensor& logits) {
  const DeviceScope device(context_);
  torch::Tensor summaries;
  if (logits.is_cpu()) {
    summaries_.resize(static_cast<std::size_t>(logits.size(0)));
    cpu_kernels().fused.vocabulary({view_of(logits), summaries_}, context_.stream);
    return summaries_;
  }
  summarize_logits(logits, summaries, context_);
  return summaries_on_host(summaries, logits.size(0));
}

std::span<const VocabularySummary> PassRunner::summaries_on_host(const torch::Tensor& summaries,
                                                                 std::int64_t count) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(VocabularySummary));
  const torch::Tensor& host = on_host(summaries.narrow(0, 0, count * kBytes), host_summaries_);
  return {static_cast<const VocabularySummary*>(host.data_ptr()), static_cast<std::size_t>(count)};
}

const torch::Tensor& PassRunner::on_host(const torch::Tensor& values, torch::Tensor& host) {
  if (values.is_cpu()) return host = values;
  const DeviceScope device(context_);
  if (!host.defined() || host.sizes() != values.sizes()) {
    host = torch::empty(values.sizes(), torch::dtype(values.scalar_type()).pinned_memory(true));
  }
  host.copy_(values, /*non_blocking=*/true);
  context_.torch_stream->synchronize();
  return host;
}

}  // namespace perpend
