#include "perpend/models/pass_graphs.h"

#include <algorithm>
#include <bit>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr std::int64_t kLeastTokens = 1024;

// Room for sequences that grow: a graph is captured anew when it has to double.
std::int64_t room_for(const ForwardInput& input, std::int64_t context_length) {
  std::int64_t longest = kLeastTokens;
  for (const KvRows& rows : input.sequences) {
    longest = std::max({longest, rows.kv_len(), rows.sequence->length()});
  }
  const auto doubled =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(longest)));
  return std::min(doubled, std::max(longest, context_length));
}

}  // namespace

PassGraphs::PassGraphs(const LanguageModel& model, const Context& context)
    : model_(model), context_(context), workspace_(torch_device(context.device)) {}

bool PassGraphs::repeats(const ForwardInput& input) {
  const auto is_short = [](const KvRows& rows) { return rows.count <= kMostRowsOfSequence; };
  return input.runs_everything() && !input.logit_rows.empty() &&
         std::ssize(input.tokens) <= kMostRows && std::ranges::all_of(input.sequences, is_short);
}

DecodeGraph* PassGraphs::find(const ForwardInput& input, std::int32_t banned_token) {
  const bool captures = context_.captures_decoding && model_.is_capturable();
  if (!captures || !repeats(input)) return nullptr;
  GraphKind kind = kind_of(input, room_for(input, model_.config().context_length), banned_token);
  const auto known = std::ranges::find(known_, kind, &Known::kind);
  if (known == known_.end()) {
    known_.push_front({std::move(kind), nullptr});
    if (known_.size() > kMostKinds) known_.pop_back();
    return nullptr;
  }
  known_.splice(known_.begin(), known_, known);
  std::unique_ptr<DecodeGraph>& graph = known_.front().graph;
  if (graph == nullptr) {
    if (num_graphs() == kMostGraphs) drop_oldest_graph();
    graph = std::make_unique<DecodeGraph>(model_, input, kind, workspace_, context_);
  }
  return graph->takes_masks(input) ? graph.get() : nullptr;
}

std::size_t PassGraphs::num_graphs() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(known_, [](const Known& known) { return known.graph != nullptr; }));
}

void PassGraphs::drop_oldest_graph() {
  const auto oldest = std::find_if(known_.rbegin(), known_.rend(),
                                   [](const Known& known) { return known.graph != nullptr; });
  known_.erase(std::next(oldest).base());
}

}  // namespace perpend
