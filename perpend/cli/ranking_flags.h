#pragma once

#include <map>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "perpend/models/language_model.h"
#include "perpend/train/dataset.h"
#include "perpend/train/ranking_metrics.h"

namespace perpend {

// By the way of ranking ("attention", "answer", "one_pass"): measures by name.
using RankingReport = std::map<std::string, std::map<std::string, double>>;

// The flags of `perpend evaluate` for data of ranking prompts.
struct RankingFlags {
  int layer = -1;  // whose attention ranks; negative: nothing is ranked
  bool one_pass = false;

  void add_to(CLI::App& app);
  // None unless a layer is given. Throws InvalidArgument for --one-pass without one, and for a
  // layer that a model of so many does not have.
  std::optional<RankingMetrics> metrics(int num_layers) const;
  // What `metrics` have seen and, if asked for, rankings of all of `data` in one pass each.
  RankingReport report(const RankingMetrics& metrics, const LanguageModel& network,
                       const Dataset& data, Context& context) const;
};

void print_rankings(const RankingReport& report);

}  // namespace perpend
