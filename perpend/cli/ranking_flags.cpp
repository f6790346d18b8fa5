#include "perpend/cli/ranking_flags.h"

#include <fmt/core.h>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/options.h"
#include "perpend/core/error.h"
#include "perpend/train/one_pass_ranking.h"

namespace perpend {
namespace {

std::map<std::string, double> measures_of(const RankingQuality& quality) {
  return {{"p_at_1", quality.p_at_1()}, {"mrr_at_10", quality.mrr_at_10()}};
}

}  // namespace

void RankingFlags::add_to(CLI::App& app) {
  app.add_option("--blockrank", layer,
                 "Also rank the documents of prompts, by the attention of this layer and by their "
                 "ids as answers: P@1 and MRR@10");
  add_flag(app, "--one-pass", one_pass,
           "Also rank as 'perpend rank' does: up to that layer, a prompt at a time");
}

std::optional<RankingMetrics> RankingFlags::metrics(int num_layers) const {
  check(layer >= 0 || !one_pass, "evaluate: --one-pass needs --blockrank");
  check(layer < num_layers,
        concat("evaluate: --blockrank: layer ", layer, " is not one of ", num_layers));
  if (layer < 0) return std::nullopt;
  return RankingMetrics(layer);
}

RankingReport RankingFlags::report(const RankingMetrics& metrics, const LanguageModel& network,
                                   const Dataset& data, Context& context) const {
  RankingReport report{{"attention", measures_of(metrics.attention())}};
  if (metrics.answer().num_lists() > 0) {
    report["answer"] = measures_of(metrics.answer());
    report["answer"]["greedy"] = metrics.greedy();
  }
  if (!one_pass) return report;
  OnePassRanking ranking(network, context, layer);
  for (std::int64_t i = 0; i < data.size(); ++i) ranking.add(data.get(i, 0));
  report["one_pass"] = measures_of(ranking.quality());
  report["one_pass"]["ms"] = median(ranking.milliseconds());
  return report;
}

void print_rankings(const RankingReport& report) {
  for (const auto& [way, measures] : report) {
    fmt::print("  ranked by {:<16}", way);
    for (const auto& [name, value] : measures) fmt::print("  {} {:.4g}", name, value);
    fmt::print("\n");
  }
}

}  // namespace perpend
