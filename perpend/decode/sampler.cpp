#include "perpend/decode/sampler.h"

#include <algorithm>
#include <cmath>

#include "perpend/core/error.h"

namespace perpend {
namespace {

bool likelier(const TokenLogprob& a, const TokenLogprob& b) {
  return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
}

VocabularySummary summarize(std::span<const float> logits, const Context& context) {
  VocabularySummary summary;
  VocabularyArgs args;
  args.logits = TensorView::dense(const_cast<float*>(logits.data()),
                                  {1, static_cast<std::int64_t>(logits.size())});
  args.out = std::span(&summary, 1);
  context.kernels->fused.vocabulary(args, context.stream);
  return summary;
}

void check_range(float value, float low, float high, std::string_view name) {
  // Written so that a NaN fails.
  if (!(value >= low && value <= high)) {
    throw InvalidArgument(
        concat("sampler: ", name, " must be in [", low, ", ", high, "] (", value, ")"));
  }
}

// The `count` likeliest tokens, likeliest first.
std::vector<TokenLogprob> likeliest(std::span<const float> logits, std::size_t count,
                                    float logsumexp) {
  std::vector<TokenLogprob> all(logits.size());
  for (std::size_t token = 0; token < logits.size(); ++token) {
    all[token] = {static_cast<std::int32_t>(token), logits[token] - logsumexp};
  }
  count = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(),
                    likelier);
  all.resize(count);
  return all;
}

}  // namespace

void check_options(const SamplerOptions& options) {
  check_range(options.temperature, 0.0F, 100.0F, "temperature");
  check_range(options.top_p, 0.0F, 1.0F, "top-p");
  check_range(options.min_p, 0.0F, 1.0F, "min-p");
  check_range(options.repetition_penalty, 0.01F, 100.0F, "repetition-penalty");
  check(options.top_k >= 0, concat("sampler: top-k must not be negative (", options.top_k, ")"));
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  check_options(options);
}

Sample Sampler::sample(std::span<float> logits, std::span<const std::int32_t> history, int num_top,
                       const Context& context) {
  VocabularySummary summary = summarize(logits, context);
  Sample result;
  if (num_top > 0) {
    result.top = likeliest(logits, static_cast<std::size_t>(num_top), summary.logsumexp);
  }
  if (options_.repetition_penalty == 1.0F && options_.temperature == 0.0F) {
    result.chosen = {summary.argmax, summary.max - summary.logsumexp};
    return result;
  }
  const float raw_logsumexp = summary.logsumexp;
  std::vector<TokenLogprob> raw;  // what the penalty is about to change
  if (options_.repetition_penalty != 1.0F) {
    for (; num_history_ < history.size(); ++num_history_) seen_.push_back(history[num_history_]);
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
    for (std::int32_t token : seen_) {
      float& logit = logits[static_cast<std::size_t>(token)];
      raw.push_back({token, logit});
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    }
  }
  if (options_.temperature > 0.0F) {
    for (float& logit : logits) logit /= options_.temperature;
  }
  summary = summarize(logits, context);
  const std::int32_t token =
      options_.temperature == 0.0F ? summary.argmax : choose(logits, summary);
  const auto penalised = std::find_if(
      raw.begin(), raw.end(), [&](const TokenLogprob& entry) { return entry.token == token; });
  const float raw_logit = penalised != raw.end()
                              ? penalised->logprob
                              : logits[static_cast<std::size_t>(token)] *
                                    (options_.temperature > 0.0F ? options_.temperature : 1.0F);
  result.chosen = {token, raw_logit - raw_logsumexp};
  return result;
}

std::int32_t Sampler::choose(std::span<const float> logits, const VocabularySummary& summary) {
  // Everything that top-k and min-p leave, without sorting the vocabulary.
  const float least = options_.min_p > 0.0F ? summary.max + std::log(options_.min_p) : -INFINITY;
  candidates_.clear();
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) {
      candidates_.push_back({static_cast<std::int32_t>(token), logits[token] - summary.max});
    }
  }
  const auto top_k = static_cast<std::size_t>(options_.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(),
                     likelier);
    candidates_.resize(top_k);
  }
  double total = 0;
  for (TokenLogprob& entry : candidates_) {
    entry.logprob = std::exp(entry.logprob);  // from here on a weight
    total += entry.logprob;
  }
  if (options_.top_p < 1.0F) {
    // Sorts ever longer heads until one holds top_p of the weight; most rows need the first.
    double kept = 0;
    std::size_t count = 0;
    for (std::size_t head = 64; kept < options_.top_p * total && count < candidates_.size();
         head *= 8) {
      const std::size_t end = std::min(head, candidates_.size());
      const auto first = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
      std::partial_sort(first, candidates_.begin() + static_cast<std::ptrdiff_t>(end),
                        candidates_.end(), likelier);
      while (count < end && (count == 0 || kept < options_.top_p * total)) {
        kept += candidates_[count++].logprob;
      }
    }
    candidates_.resize(count);
    total = kept;
  }
  double remaining = random_.next_double() * total;
  for (const TokenLogprob& entry : candidates_) {
    remaining -= entry.logprob;
    if (remaining < 0) return entry.token;
  }
  return candidates_.back().token;
}

}  // namespace perpend
