#include "perpend/cli/diffusion_flags.h"

#include <array>
#include <span>
#include <utility>

#include "perpend/cli/options.h"
#include "perpend/core/error.h"

namespace perpend {
namespace {

template <class T>
using Choices = std::span<const std::pair<std::string_view, T>>;

template <class T>
T choice(std::string_view flag, std::string_view name, Choices<T> choices) {
  std::string known;
  for (const auto& [known_name, value] : choices) {
    if (name == known_name) return value;
    known += concat(known.empty() ? "" : ", ", known_name);
  }
  throw InvalidArgument(concat(flag, ": expected one of ", known, " (", name, ")"));
}

using Kind = UnmaskRule::Kind;
constexpr std::array kRules = {
    std::pair<std::string_view, Kind>{"threshold", Kind::kThreshold},
    std::pair<std::string_view, Kind>{"factor", Kind::kFactor},
    std::pair<std::string_view, Kind>{"count", Kind::kCount},
    std::pair<std::string_view, Kind>{"steps", Kind::kSteps},
};
constexpr std::array kConfidences = {
    std::pair<std::string_view, Confidence>{"probability", Confidence::kProbability},
    std::pair<std::string_view, Confidence>{"margin", Confidence::kMargin},
    std::pair<std::string_view, Confidence>{"entropy", Confidence::kEntropy},
};

using Similarity = ElasticConfig::Similarity;
constexpr std::array kSimilarities = {
    std::pair<std::string_view, Similarity>{"heads", Similarity::kHeads},
    std::pair<std::string_view, Similarity>{"keys", Similarity::kKeys},
};

}  // namespace

void DiffusionFlags::add_to(CLI::App& app) {
  const auto add = [&](const std::string& flag, auto& value, const std::string& help) {
    given_.push_back(add_option(app, flag, value, help));
  };
  add("--block-size", block_size,
      "Tokens that a diffusion model fills together; 1: one after another; 0: the model's");
  add("--sub-block", sub_block_size,
      "Parts of a block filled from left to right; 0: as the model's authors do");
  add("--cache", cache,
      "Keys that a diffusion model keeps: none, block, sub-block (approximate); with full "
      "attention none, prefix, dual, elastic (all approximate); auto: block or none");
  add("--fill-window", window,
      "With full attention: no blocks, but so many masked tokens from the left; 0: blocks, or 16 "
      "with --cache elastic");
  add("--gamma", elastic.gamma,
      "Of --cache elastic: attention less similar than this refreshes deeper layers");
  add("--track", elastic.num_tracked,
      "Of --cache elastic: tokens a layer whose attention is watched");
  add("--similarity", similarity, "Of --cache elastic: cosines over heads or over keys");
  add("--unmask", unmask,
      "What a step makes final: threshold, factor, count (--tokens-per-step) or steps (--steps)");
  add("--threshold", rule.threshold, "Of --unmask threshold: tokens more probable than this");
  add("--factor", rule.factor,
      "Of --unmask factor: n tokens while the n-th is at least 1 - factor / (n + 1) probable");
  add("--tokens-per-step", rule.tokens_per_step, "Of --unmask count; 2.5 is possible");
  add("--steps", rule.num_steps, "Of --unmask steps: steps of a sub-block");
  add("--confidence", confidence, "How a step ranks tokens: probability, margin or entropy");
}

void DiffusionFlags::check_not_given() const {
  for (const CLI::Option* option : given_) {
    check(option->count() == 0, concat(option->get_name(), " is for models of diffusion alone"));
  }
}

DiffusionOptions DiffusionFlags::options() const {
  DiffusionOptions options;
  options.block_size = block_size;
  options.sub_block_size = sub_block_size;
  if (cache != "auto") options.cache = parse_canvas_cache(cache);
  options.window = window;
  options.elastic = elastic;
  options.elastic.similarity = choice<Similarity>("--similarity", similarity, kSimilarities);
  options.rule = rule;
  options.rule.kind = choice<Kind>("--unmask", unmask, kRules);
  options.confidence = choice<Confidence>("--confidence", confidence, kConfidences);
  return options;
}

}  // namespace perpend
