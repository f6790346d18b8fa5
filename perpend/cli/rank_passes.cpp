#include "perpend/cli/rank_passes.h"

#include <chrono>
#include <iterator>
#include <numeric>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/models/kv_store_config.h"

namespace perpend {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

RankLayout causal_layout(const RankPrompt& prompt) {
  RankLayout layout;
  const auto add = [&](const std::vector<std::int32_t>& tokens) {
    layout.tokens.insert(layout.tokens.end(), tokens.begin(), tokens.end());
  };
  add(prompt.instruction);
  for (const auto& document : prompt.documents) add(document);
  add(prompt.query);
  layout.num_places = std::ssize(layout.tokens);
  layout.positions.resize(layout.tokens.size());
  std::iota(layout.positions.begin(), layout.positions.end(), 0);
  layout.passes.push_back({0, layout.num_places});
  layout.mask = Mask::causal();
  return layout;
}

AnswerPass::AnswerPass(const LanguageModel& network, Context& context, RankLayout layout,
                       std::int64_t num_decoded, DType kv_dtype)
    : layout_(std::move(layout)),
      masks_(static_cast<std::size_t>(network.config().num_layers), layout_.mask),
      num_decoded_(num_decoded),
      store_(kv_store_config(network.config(), kv_dtype, layout_.num_places + num_decoded,
                             context.device)),
      runner_(network, context) {}

AnswerPass::Times AnswerPass::run() {
  sequence_.reset();
  sequence_.emplace(store_);
  Times times;
  auto start = Clock::now();
  std::int32_t token = prefill();
  times.prefill_ms = ms_since(start);
  start = Clock::now();
  for (std::int64_t i = 0; i < num_decoded_; ++i) token = decode(token, i);
  times.decode_ms = ms_since(start);
  return times;
}

KvRows AnswerPass::append(std::int64_t count) {
  const std::int64_t begin = sequence_->length();
  if (!sequence_->append(count)) bug("bench rank: the store is sized for its prompt");
  return {&*sequence_, begin, count};
}

std::int32_t AnswerPass::prefill() {
  append(layout_.num_places);
  std::vector<KvRows> rows;
  for (const Range& places : layout_.passes) {
    rows.push_back({&*sequence_, places.begin, places.size()});
  }
  const auto last = static_cast<std::int32_t>(layout_.tokens.size() - 1);
  return runner_
      .summarize({.tokens = layout_.tokens,
                  .sequences = rows,
                  .layer_masks = masks_,
                  .logit_rows = {&last, 1},
                  .positions = layout_.positions})
      .front()
      .argmax;
}

std::int32_t AnswerPass::decode(std::int32_t token, std::int64_t index) {
  const KvRows rows = append(1);
  const std::int32_t logit_row = 0;
  const auto position = static_cast<std::int32_t>(layout_.positions.back() + 1 + index);
  return runner_
      .summarize({.tokens = {&token, 1},
                  .sequences = {&rows, 1},
                  .layer_masks = masks_,
                  .logit_rows = {&logit_row, 1},
                  .positions = {&position, 1}})
      .front()
      .argmax;
}

}  // namespace perpend
