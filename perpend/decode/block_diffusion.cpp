#include "perpend/decode/block_diffusion.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {

BlockDiffusion::BlockDiffusion(const DiffusionSetting& setting, const SamplerOptions& sampler,
                               Answer answer, std::function<void(const CanvasStep&)> on_step)
    : setting_(setting),
      answer_(std::move(answer)),
      on_step_(std::move(on_step)),
      sampler_(sampler),
      greedy_(SamplerOptions{}) {
  check(sampler.repetition_penalty == 1.0F,
        concat("diffusion: repetition-penalty is not built for blocks; 1 is (",
               sampler.repetition_penalty, ")"));
}

std::int64_t BlockDiffusion::limit() const {
  return std::min(answer_.prompt_tokens + answer_.max_tokens, answer_.context_length);
}

void BlockDiffusion::open(std::span<const std::int32_t> tokens, std::int64_t num_pending) {
  num_known_ = static_cast<std::int64_t>(tokens.size());
  num_committed_ = num_known_ - num_pending;
  const DiffusionConfig& model = setting_.model;
  const std::int64_t origin =
      model.attention == DiffusionAttention::kBlock ? 0 : answer_.prompt_tokens;
  block_.begin = origin + (num_known_ - origin) / model.block_size * model.block_size;
  block_.end = std::min(block_.begin + model.block_size,
                        setting_.is_full() ? limit() : answer_.context_length);
  if (setting_.window > 0) block_ = {num_known_, limit()};
  fill_end_ = block_.end;
  const auto end = static_cast<std::size_t>(setting_.is_full() ? limit() : block_.end);
  canvas_.assign(tokens.begin(), tokens.end());
  canvas_.resize(end, mask_token());
  masked_.assign(end, true);
  std::fill_n(masked_.begin(), num_known_, false);
  samples_.assign(end - tokens.size(), {});
  open_masks_.clear();
  if (model.attention == DiffusionAttention::kContextCausal) {
    const Mask mask =
        parse_mask(concat("block_decode(", model.block_size, ", ", block_.begin, ")"));
    open_masks_.assign(static_cast<std::size_t>(answer_.num_layers), mask);
  }
  sub_block_ = {};
  first_of_block_ = true;
}

bool BlockDiffusion::needs_context_pass() const {
  if (setting_.is_full()) return false;
  if (setting_.cache == CanvasCache::kNone) return shift() == 1 && is_masked(block_.begin);
  return num_committed_ < block_.begin;
}

Step BlockDiffusion::next_step() {
  wanted_.clear();
  filled_.clear();
  denoises_ = !needs_context_pass();
  const Step step = denoises_ ? denoise_step() : context_step();
  if (denoises_ || !wanted_.empty() || seen_.rows.end > answer_.prompt_tokens) {
    ++num_forwards_;
    num_rows_ += seen_.rows.size();
  }
  return step;
}

Step BlockDiffusion::context_step() {
  const Range rows{setting_.cache == CanvasCache::kNone ? 0 : num_committed_, block_.begin};
  if (shift() == 1 && is_masked(block_.begin)) wanted_.push_back(block_.begin);
  return step_over(rows, rows.end, {});
}

Step BlockDiffusion::denoise_step() {
  enter_sub_block();
  const auto end = static_cast<std::int64_t>(canvas_.size());
  const Range rows = rows_of_step(setting_.cache, {.block = block_,
                                                   .sub_block = sub_block_,
                                                   .end = end,
                                                   .begins_masked = is_masked(sub_block_.begin),
                                                   .first_of_block = first_of_block_});
  wanted_ = candidates();
  return step_over(rows, end, open_masks_);
}

void BlockDiffusion::enter_sub_block() {
  const auto masked_in = [&](Range range) {
    return std::count(masked_.begin() + range.begin, masked_.begin() + range.end, true);
  };
  if (masked_in(sub_block_) > 0) return;
  const auto first = std::find(masked_.begin() + block_.begin, masked_.end(), true);
  if (setting_.window > 0) {
    sub_block_ = {first - masked_.begin(), fill_end_};
    state_ = {masked_in(sub_block_), 0};
    return;
  }
  const std::int64_t offset = first - masked_.begin() - block_.begin;
  sub_block_.begin = block_.begin + offset / setting_.sub_block_size * setting_.sub_block_size;
  sub_block_.end = std::min(sub_block_.begin + setting_.sub_block_size, block_.end);
  state_ = {masked_in(sub_block_), 0};
}

bool BlockDiffusion::fills_first_alone() const {
  return first_of_block_ && shift() == 1 && keeps_stale_prefix(setting_.cache);
}

std::vector<std::int64_t> BlockDiffusion::candidates() const {
  if (fills_first_alone()) return {block_.begin};
  std::vector<std::int64_t> positions;
  const std::int64_t most = setting_.window > 0 ? setting_.window : sub_block_.size();
  for (std::int64_t position = sub_block_.begin;
       position < std::min(sub_block_.end, fill_end_) && std::ssize(positions) < most; ++position) {
    if (is_masked(position)) positions.push_back(position);
  }
  return positions;
}

Step BlockDiffusion::step_over(Range rows, std::int64_t num_keys, std::span<const Mask> masks) {
  if (rows.begin < num_committed_) bug(concat("diffusion: rows ", rows, " are committed"));
  seen_ = {.denoises = denoises_,
           .block = block_,
           .rows = rows,
           .num_keys = num_keys,
           .filled = {},
           .guesses = {}};
  logit_rows_.clear();
  for (const std::int64_t position : wanted_) {
    logit_rows_.push_back(static_cast<std::int32_t>(position - shift() - rows.begin));
  }
  proposals_.assign(wanted_.size(), {});
  return {.tokens = std::span(canvas_).subspan(static_cast<std::size_t>(rows.begin),
                                               static_cast<std::size_t>(rows.size())),
          .logit_rows = logit_rows_,
          .offset = rows.begin - num_committed_,
          .num_keys = num_keys,
          .layer_masks = masks,
          .banned_token = mask_token()};
}

bool BlockDiffusion::needs_only_summaries() const {
  return sampler_.takes_likeliest() && answer_.num_top_logprobs == 0 &&
         setting_.confidence == Confidence::kProbability;
}

void BlockDiffusion::take(std::int64_t first, const torch::Tensor& logits, const Context& context) {
  // Fast-dLLM v2 never draws the first token of a block; a block of one would draw none at all.
  const bool likeliest = !denoises_ && setting_.model.attention == DiffusionAttention::kBlock &&
                         setting_.model.block_size > 1;
  Sampler& sampler = likeliest ? greedy_ : sampler_;
  const auto vocab_size = static_cast<std::size_t>(logits.size(1));
  for (std::int64_t row = 0; row < logits.size(0); ++row) {
    const std::span<const float> values(logits.data_ptr<float>() + row * logits.size(1),
                                        vocab_size);
    proposals_[static_cast<std::size_t>(first + row)] =
        sampler.propose(values, denoises_ ? setting_.confidence : Confidence::kProbability,
                        answer_.num_top_logprobs, context);
  }
}

void BlockDiffusion::take(std::int64_t first, std::span<const VocabularySummary> rows) {
  std::transform(rows.begin(), rows.end(), proposals_.begin() + first,
                 [](const VocabularySummary& row) { return Sampler::propose(row); });
}

StepResult BlockDiffusion::update() {
  StepResult result;
  if (denoises_) {
    fill_surest();
    ++state_.step;
    // The rest of the sub-block is counted by itself.
    if (fills_first_alone()) sub_block_ = {};
    first_of_block_ = false;
  } else {
    if (!wanted_.empty()) fill(block_.begin, proposals_.front());
    if (setting_.cache != CanvasCache::kNone) {
      result.num_committed = block_.begin - num_committed_;
      num_committed_ = block_.begin;
    }
  }
  if (on_step_) report();
  result.finished = is_done();
  return result;
}

void BlockDiffusion::report() {
  guesses_.clear();
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    if (!is_masked(wanted_[i])) continue;
    guesses_.push_back({wanted_[i], proposals_[i].sample.chosen, proposals_[i].confidence});
  }
  seen_.filled = filled_;
  seen_.guesses = guesses_;
  on_step_(seen_);
}

void BlockDiffusion::fill(std::int64_t position, const Proposal& proposal) {
  const auto index = static_cast<std::size_t>(position);
  canvas_[index] = proposal.sample.chosen.token;
  masked_[index] = false;
  samples_[static_cast<std::size_t>(position - num_known_)] = proposal.sample;
  filled_.push_back({position, proposal.sample.chosen, proposal.confidence});
  // What stands behind a stop token is of no use; only a window would go on to it.
  if (setting_.window > 0 && is_stop(position)) fill_end_ = std::min(fill_end_, position + 1);
}

void BlockDiffusion::fill_surest() {
  std::vector<std::size_t> order(wanted_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Equally sure ones from left to right.
  std::ranges::stable_sort(order, std::greater<>(),
                           [&](std::size_t index) { return proposals_[index].confidence; });
  std::vector<float> confidences;
  for (const std::size_t index : order) confidences.push_back(proposals_[index].confidence);
  const auto count = static_cast<std::size_t>(num_accepted(setting_.rule, confidences, state_));
  for (const std::size_t index : std::span(order).first(count)) {
    fill(wanted_[index], proposals_[index]);
  }
}

bool BlockDiffusion::is_done() {
  const std::int64_t end = std::min(block_.end, limit());
  for (std::int64_t i = std::max(block_.begin, num_known_); i < end; ++i) {
    if (is_masked(i)) return false;
    if (is_stop(i)) {
      answer_end_ = i + 1;
      return true;
    }
  }
  answer_end_ = end;
  return true;
}

std::span<const Sample> BlockDiffusion::block() const {
  return std::span(samples_).first(static_cast<std::size_t>(answer_end_ - num_known_));
}

}  // namespace perpend
