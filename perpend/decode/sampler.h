#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/nn/context.h"

namespace perpend {

struct SamplerOptions {
  float temperature = 0.0F;  // 0: always the likeliest token
  int top_k = 0;             // only the k likeliest; 0: no limit
  float top_p = 1.0F;        // the fewest tokens whose probabilities reach p (1904.09751)
  float min_p = 0.0F;        // only tokens with at least min_p of the likeliest's probability
  float repetition_penalty = 1.0F;  // logits of tokens seen before: divided (or multiplied) by it
  std::uint64_t seed = 0;
};

// Throws InvalidArgument naming the option, its range and the value.
void check_options(const SamplerOptions& options);

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0.0F;  // natural, under the model's own distribution, before any option
};

struct Sample {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // likeliest first, as many as asked for
};

// How sure a proposal is. Of the distribution that the sampler draws from: the probability of the
// token, that of the likeliest token less that of the next, or the negative entropy in nats.
enum class Confidence { kProbability, kMargin, kEntropy };

// A token that may become final, and how sure it is.
struct Proposal {
  Sample sample;
  float confidence = 0.0F;
};

// Draws tokens. Order of the options: repetition penalty, temperature, top-k, top-p, min-p. One
// sampler a request: its draws depend on its seed and its own rows alone.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  // One token from `logits` [vocab_size], which may be changed. `history` are the tokens before,
  // ids of the vocabulary. Throws InvalidArgument for logits that hold +inf or NaN, or -inf alone.
  Sample sample(std::span<float> logits, std::span<const std::int32_t> history, int num_top,
                const Context& context);

  // A token for a place that need not be filled yet. At temperature 0 the distribution is the
  // model's own. Throws as sample() does; a repetition penalty is not applied.
  Proposal propose(std::span<const float> logits, Confidence confidence, int num_top,
                   const Context& context);
  // At temperature 0, by probability.
  static Proposal propose(const VocabularySummary& summary);

  // Whether the options always choose the likeliest token, which a summary names.
  bool takes_likeliest() const {
    return options_.temperature == 0.0F && options_.repetition_penalty == 1.0F;
  }
  // Throws as sample() does.
  static Sample sample(const VocabularySummary& summary);

 private:
  struct SeenToken {
    std::int32_t token = 0;
    float raw_logit = 0.0F;  // before the penalty
  };
  struct Candidate {
    std::int32_t token = 0;
    float weight = 0.0F;  // probability over that of the likeliest token
  };

  static bool before(const SeenToken& seen, std::int32_t token) { return seen.token < token; }
  static bool heavier(const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  }

  void penalise(std::span<float> logits, std::span<const std::int32_t> history);
  float raw_logit(std::span<const float> logits, std::int32_t token) const;
  // Fills candidates_ with what the options leave.
  void collect(std::span<const float> logits, float max, float temperature);
  void truncate();
  Candidate draw();
  float confidence_of(const Candidate& chosen, Confidence kind) const;
  void keep_top_k();
  void keep_top_p();
  double total_weight() const;

  SamplerOptions options_;
  Random random_;
  std::vector<SeenToken> seen_;        // distinct tokens of the history, in order
  std::size_t num_history_ = 0;        // how much of the history seen_ covers
  std::vector<Candidate> candidates_;  // scratch
};

}  // namespace perpend
