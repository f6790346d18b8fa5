#include "perpend/decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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
  cpu_kernels().fused.vocabulary(args, context.stream);  // logits are on the host
  return summary;
}

// The summary passes over a NaN among numbers; a draw would not.
void check_logits(std::span<const float> logits, const VocabularySummary& summary) {
  const bool has_nan =
      std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); });
  check(!has_nan && std::isfinite(summary.logsumexp), "sampler: the model's logits are not finite");
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
  check_logits(logits, summary);
  const float logsumexp = summary.logsumexp;
  Sample result;
  if (num_top > 0) {
    result.top = likeliest(logits, static_cast<std::size_t>(num_top), logsumexp);
  }
  if (options_.repetition_penalty != 1.0F) {
    penalise(logits, history);
    summary = summarize(logits, context);
  }
  std::int32_t token = summary.argmax;
  if (options_.temperature != 0.0F) {
    collect(logits, summary.max, options_.temperature);
    truncate();
    token = draw().token;
  }
  result.chosen = {token, raw_logit(logits, token) - logsumexp};
  return result;
}

Proposal Sampler::propose(std::span<const float> logits, Confidence confidence, int num_top,
                          const Context& context) {
  const VocabularySummary summary = summarize(logits, context);
  check_logits(logits, summary);
  Proposal proposal;
  if (num_top > 0) {
    proposal.sample.top = likeliest(logits, static_cast<std::size_t>(num_top), summary.logsumexp);
  }
  const bool greedy = options_.temperature == 0.0F;
  if (greedy && confidence == Confidence::kProbability) {
    proposal.sample.chosen = sample(summary).chosen;
    proposal.confidence = std::exp(proposal.sample.chosen.logprob);
    return proposal;
  }
  collect(logits, summary.max, greedy ? 1.0F : options_.temperature);
  if (!greedy) truncate();
  const Candidate chosen = greedy ? Candidate{summary.argmax, 1.0F} : draw();
  proposal.sample.chosen = {chosen.token,
                            logits[static_cast<std::size_t>(chosen.token)] - summary.logsumexp};
  proposal.confidence = confidence_of(chosen, confidence);
  return proposal;
}

Proposal Sampler::propose(const VocabularySummary& summary) {
  Proposal proposal{sample(summary), 0.0F};
  proposal.confidence = std::exp(proposal.sample.chosen.logprob);
  return proposal;
}

float Sampler::confidence_of(const Candidate& chosen, Confidence kind) const {
  const double total = total_weight();
  if (kind == Confidence::kProbability) return static_cast<float>(chosen.weight / total);
  double best = 0;
  double next = 0;
  double negative_entropy = 0;
  for (const Candidate& entry : candidates_) {
    const double p = entry.weight / total;
    if (p > 0) negative_entropy += p * std::log(p);
    next = std::max(next, std::min(best, p));
    best = std::max(best, p);
  }
  return static_cast<float>(kind == Confidence::kMargin ? best - next : negative_entropy);
}

Sample Sampler::sample(const VocabularySummary& summary) {
  check_logits({}, summary);
  return {.chosen = {summary.argmax, summary.max - summary.logsumexp}, .top = {}};
}

void Sampler::penalise(std::span<float> logits, std::span<const std::int32_t> history) {
  for (; num_history_ < history.size(); ++num_history_) {
    const std::int32_t token = history[num_history_];
    const auto place = std::lower_bound(seen_.begin(), seen_.end(), token, before);
    if (place == seen_.end() || place->token != token) seen_.insert(place, {token, 0.0F});
  }
  for (SeenToken& seen : seen_) {
    float& logit = logits[static_cast<std::size_t>(seen.token)];
    seen.raw_logit = logit;
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  }
}

float Sampler::raw_logit(std::span<const float> logits, std::int32_t token) const {
  const auto place = std::lower_bound(seen_.begin(), seen_.end(), token, before);
  if (place != seen_.end() && place->token == token) return place->raw_logit;
  return logits[static_cast<std::size_t>(token)];
}

void Sampler::collect(std::span<const float> logits, float max, float temperature) {
  candidates_.clear();
  for (std::size_t token = 0; token < logits.size(); ++token) {
    // The likeliest token weighs 1, however low the temperature.
    candidates_.push_back(
        {static_cast<std::int32_t>(token), std::exp((logits[token] - max) / temperature)});
  }
}

void Sampler::truncate() {
  keep_top_k();
  keep_top_p();
  if (options_.min_p > 0.0F) {
    std::erase_if(candidates_,
                  [&](const Candidate& entry) { return entry.weight < options_.min_p; });
  }
}

Sampler::Candidate Sampler::draw() {
  double remaining = random_.next_double() * total_weight();
  for (const Candidate& entry : candidates_) {
    remaining -= entry.weight;
    if (remaining < 0) return entry;
  }
  return candidates_.back();
}

void Sampler::keep_top_k() {
  const auto top_k = static_cast<std::size_t>(options_.top_k);
  if (top_k == 0 || top_k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(),
                   heavier);
  candidates_.resize(top_k);
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1.0F) return;
  const double wanted = options_.top_p * total_weight();
  double kept = 0;
  std::size_t count = 0;
  // Sorts ever longer heads until one holds top_p of the weight; most rows need the first.
  for (std::size_t head = 64; count == 0 || (kept < wanted && count < candidates_.size());
       head *= 8) {
    const std::size_t end = std::min(head, candidates_.size());
    std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(count),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(end), candidates_.end(),
                      heavier);
    while (count < end && (count == 0 || kept < wanted)) kept += candidates_[count++].weight;
  }
  candidates_.resize(count);
}

double Sampler::total_weight() const {
  return std::accumulate(candidates_.begin(), candidates_.end(), 0.0,
                         [](double sum, const Candidate& entry) { return sum + entry.weight; });
}

}  // namespace perpend
