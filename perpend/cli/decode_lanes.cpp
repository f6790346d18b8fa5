#include "perpend/cli/decode_lanes.h"

#include <algorithm>

#include "perpend/decode/autoregressive.h"
#include "perpend/decode/block_diffusion.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/model_plan.h"
#include "perpend/ops/any_tensor.h"

namespace perpend {
namespace {

KvStoreConfig store_config(const ModelConfig& config, const Context& context, std::int64_t count,
                           const LaneSizes& sizes) {
  const std::int64_t page_size = KvStoreConfig{}.page_size;
  // The last block of an answer may end behind it.
  const std::int64_t longest =
      std::min(sizes.prompt + sizes.tokens + page_size, config.context_length + page_size);
  return kv_store_config(config, dtype_of(context.type), count * round_up(longest, page_size),
                         context.device);
}

// Tokens as they were found, which are then filled from left to right: of random weights those that
// are surest lie anywhere, and the first token of a sub-block would stay masked for long.
std::vector<VocabularySummary> equally_sure(std::span<const VocabularySummary> found) {
  std::vector<VocabularySummary> summaries(found.begin(), found.end());
  for (VocabularySummary& summary : summaries) summary.max = summary.logsumexp = 0;
  return summaries;
}

}  // namespace

DecodeLanes::DecodeLanes(const Llama& model, const LanguageModel& network, Context& context,
                         std::int64_t count, const LaneSizes& sizes,
                         const std::optional<DiffusionSetting>& diffusion)
    : model_(model),
      context_(context),
      sizes_(sizes),
      diffusion_(diffusion),
      masks_(static_cast<std::size_t>(model.config().num_layers),
             diffusion ? context_mask(diffusion->model) : Mask::causal()),
      store_(store_config(model.config(), context, count, sizes)),
      runner_(network, context),
      lanes_(static_cast<std::size_t>(count)) {}

std::unique_ptr<Denoiser> DecodeLanes::make_denoiser(std::int64_t tokens) {
  if (!diffusion_) return std::make_unique<Autoregressive>(SamplerOptions{}, 0);
  return std::make_unique<BlockDiffusion>(
      *diffusion_, SamplerOptions{},
      BlockDiffusion::Answer{.prompt_tokens = sizes_.prompt,
                             .max_tokens = tokens,
                             .context_length = model_.config().context_length,
                             .num_layers = model_.config().num_layers,
                             .num_top_logprobs = 0,
                             .is_stop = {}},
      [this](const CanvasStep& step) {
        seen_ = step;
        num_filled_ = std::ssize(step.filled);
      });
}

void DecodeLanes::restart(std::int64_t tokens) {
  std::vector<std::int32_t> prompt;
  for (Lane& lane : lanes_) {
    // No two prompts are alike.
    const auto seed = static_cast<std::int64_t>(&lane - lanes_.data());
    prompt.clear();
    for (std::int64_t i = 0; i < sizes_.prompt; ++i) {
      prompt.push_back(static_cast<std::int32_t>((seed * 31 + i) % model_.config().vocab_size));
    }
    lane.steps.reset();
    lane.sequence = std::make_unique<KvSequence>(store_);
    lane.steps = std::make_unique<SequenceSteps>(*lane.sequence, lane.policy, masks_,
                                                 model_.config().context_length, sizes_.chunk);
    lane.steps->push(prompt);
    lane.denoiser = make_denoiser(tokens);
    lane.is_open = false;
  }
}

DecodeTimes DecodeLanes::decode(std::int64_t tokens, std::int64_t most_passes) {
  restart(tokens);
  DecodeTimes times;
  std::int64_t num_given = 0;  // with the prompt
  // Of a model whose tokens keep no keys, the canvas is the prompt too.
  if (!diffusion_ || keeps_finished(diffusion_->cache)) {
    const double ms = ms_of(context_, [&] {
      for (Lane& lane : lanes_) {
        prefill(lane);
        DecodeTimes first;
        run_pass({&lane, 1}, first);
      }
    });
    times.passes.push_back({.kind = PassKind::kPrompt,
                            .rows = std::ssize(lanes_) * sizes_.prompt,
                            .logit_rows = static_cast<double>(lanes_.size()),
                            .ms = {ms}});
    num_given = diffusion_ ? num_filled_ : 1;
  }
  const Lane& first = lanes_.front();
  const auto num_answered = [&] { return std::ssize(first.steps->tokens()) - sizes_.prompt; };
  while (num_answered() < tokens && (most_passes == 0 || times.num_forwards < most_passes)) {
    run_pass(lanes_, times);
  }
  times.num_tokens = std::ssize(lanes_) * (num_answered() - num_given);
  return times;
}

void DecodeLanes::prefill(Lane& lane) {
  while (lane.steps->has_chunk()) {
    const Step chunk = lane.steps->next_chunk();
    const std::optional<KvRows> rows = lane.steps->place(chunk);
    if (!rows) bug("bench diffusion: the store is sized for its sequences");
    model_.forward({chunk.tokens, {&*rows, 1}, masks_, {}}, context_);
    lane.steps->finish_chunk();
  }
}

void DecodeLanes::run_pass(std::span<Lane> lanes, DecodeTimes& times) {
  std::vector<std::int32_t> tokens;
  std::vector<KvRows> rows;
  std::vector<std::int32_t> logit_rows;
  std::vector<std::int64_t> first_wanted;  // of each sequence, and the end
  Step step;
  const double ms = ms_of(context_, [&] {
    for (Lane& lane : lanes) {
      if (!lane.is_open) lane.steps->open(*lane.denoiser);
      lane.is_open = true;
      step = SequenceSteps::next_step(*lane.denoiser);
      const std::optional<KvRows> placed = lane.steps->place(step);
      if (!placed) bug("bench diffusion: the store is sized for its sequences");
      rows.push_back(*placed);
      first_wanted.push_back(std::ssize(logit_rows));
      for (const std::int32_t row : step.logit_rows) {
        logit_rows.push_back(row + static_cast<std::int32_t>(tokens.size()));
      }
      tokens.insert(tokens.end(), step.tokens.begin(), step.tokens.end());
    }
    first_wanted.push_back(std::ssize(logit_rows));
    const ForwardInput input{tokens, rows, lanes.front().steps->masks_of(step), logit_rows};
    const auto hand_out = [&](std::int64_t first, std::span<const VocabularySummary> found) {
      const std::vector<VocabularySummary> summaries = equally_sure(found);
      const Range chunk{first, first + std::ssize(summaries)};
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        const Range part = intersect({first_wanted[i], first_wanted[i + 1]}, chunk);
        if (part.empty()) continue;
        lanes[i].denoiser->take(
            part.begin - first_wanted[i],
            std::span(summaries).subspan(static_cast<std::size_t>(part.begin - first),
                                         static_cast<std::size_t>(part.size())));
      }
    };
    runner_.summarize(input, step.banned_token, hand_out);
    for (Lane& lane : lanes) lane.is_open = !lane.steps->finish_step(*lane.denoiser);
  });
  count(last_kind(), {tokens, rows, masks_, logit_rows}, ms, times);
}

PassKind DecodeLanes::last_kind() const {
  if (!diffusion_) return PassKind::kToken;
  if (diffusion_->is_full()) return PassKind::kCanvas;
  if (!seen_.denoises) return PassKind::kFinished;
  return seen_.rows == seen_.block ? PassKind::kBlock : PassKind::kSubBlock;
}

void DecodeLanes::count(PassKind kind, const ForwardInput& input, double ms,
                        DecodeTimes& times) const {
  const ModelConfig& config = model_.config();
  auto found = std::ranges::find(times.passes, kind, &PassTimes::kind);
  if (found == times.passes.end()) {
    times.passes.push_back({.kind = kind, .rows = std::ssize(input.tokens)});
    found = std::prev(times.passes.end());
  }
  times.decode_ms += ms;
  ++times.num_forwards;
  found->ms.push_back(ms);
  const auto share = 1.0 / static_cast<double>(found->ms.size());
  const auto mean_with = [&](double& mean, double value) { mean += (value - mean) * share; };
  const double head_values = static_cast<double>(config.vocab_size) * config.model_dim;
  const double embeddings = head_values * (config.tied_embeddings ? 1 : 2);
  const double linear = static_cast<double>(count_parameters(config)) - embeddings;
  double keys = 0;
  double pairs = 0;
  for (const KvRows& rows : input.sequences) {
    keys += static_cast<double>(rows.kv_len());
    pairs += static_cast<double>(rows.kv_len() * rows.count);
  }
  const double value_bytes = static_cast<double>(size_of(store_.config().dtype));
  const double of_key = 2.0 * config.num_kv_heads * config.head_dim * config.num_layers;
  const double attention = 4.0 * config.num_q_heads * config.head_dim * config.num_layers * pairs;
  mean_with(found->bytes, value_bytes * (linear + head_values + of_key * keys));
  mean_with(found->flops, 2 * linear * static_cast<double>(input.tokens.size()) +
                              2 * head_values * static_cast<double>(input.logit_rows.size()) +
                              attention);
  mean_with(found->logit_rows, static_cast<double>(input.logit_rows.size()));
}

}  // namespace perpend
