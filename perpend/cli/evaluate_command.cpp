#include <chrono>
#include <iostream>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/ranking_flags.h"
#include "perpend/nn/device_choice.h"
#include "perpend/nn/device_scope.h"
#include "perpend/nn/torch_threads.h"
#include "perpend/train/evaluation.h"
#include "perpend/train/lora.h"
#include "perpend/train/opened_model.h"

namespace perpend {
namespace {

struct EvaluateCommand {
  ModelOptions options;
  std::vector<std::string> data;
  EvaluationOptions evaluation;
  RankingFlags ranking;
  bool json = false;

  void run() const;
  OpenedModel open(Context& context) const;
  void evaluate_one(const OpenedModel& model, const std::string& path, Context& context) const;
};

nlohmann::ordered_json object_of(const TargetScore& score) {
  return {{"targets", score.count}, {"loss", score.loss()}, {"exact_match", score.exact_match()}};
}

void print_score(const std::string& name, const TargetScore& score) {
  fmt::print("{:<28} {:>9}  {:>9.4f}  {:>10.2f}\n", name, score.count, score.loss(),
             100 * score.exact_match());
}

OpenedModel EvaluateCommand::open(Context& context) const {
  const bool on_gpu = context.device.type == DeviceType::kCuda;
  const ModelPlace place = options.place();
  const ModelSource source{.path = place.path,
                           .config_json = "",
                           .dtype = on_gpu ? "bf16" : "f32",
                           .layers = options.layers,
                           .changes = options.changes()};
  OpenedModel model = open_model(source, 0, context);
  if (!place.adapter.empty()) {
    read_lora(place.adapter, *model.llama);
    model.llama->merge_adapters();
  }
  return model;
}

void EvaluateCommand::evaluate_one(const OpenedModel& model, const std::string& path,
                                   Context& context) const {
  const auto dataset = open_dataset({.path = path}, model.checkpoint);
  std::int64_t num_tokens = 0;
  for (std::int64_t i = 0; i < dataset->size(); ++i) num_tokens += dataset->num_tokens(i);
  ProgressBar progress("evaluate", num_tokens);
  const auto start = std::chrono::steady_clock::now();
  TargetScorer scorer;
  std::optional<RankingMetrics> rankings = ranking.metrics(model.llama->config().num_layers);
  EvaluationOptions pass = evaluation;
  if (rankings) pass.captured_layers = {rankings->layer()};
  for_each_evaluated(*model.llama, dataset, model.layer_masks, pass, [&](const LossInput& input) {
    scorer.add(input);
    if (rankings) rankings->add(input);
    progress.update(scorer.result().num_tokens);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  const auto ranked =
      rankings ? ranking.report(*rankings, *model.llama, *dataset, context) : RankingReport();
  const Evaluation& result = scorer.result();
  if (json) {
    nlohmann::ordered_json object = {
        {"data", path},
        {"sequences", result.num_sequences},
        {"tokens", result.num_tokens},
        {"tokens_per_s", static_cast<double>(num_tokens) / seconds.count()}};
    object.update(object_of(result.all));
    for (const auto& [group, score] : result.groups) {
      object["groups"][std::to_string(group)] = object_of(score);
    }
    for (const auto& [way, values] : ranked) object["ranking"][way] = values;
    std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  fmt::print("{:<28} {:>9}  {:>9}  {:>10}\n", "", "targets", "loss", "% exact");
  print_score(path, result.all);
  for (const auto& [group, score] : result.groups)
    print_score(fmt::format("  group {}", group), score);
  print_rankings(ranked);
}

void EvaluateCommand::run() const {
  Runtime runtime(choose_device(options.device), options.threads);
  const DeviceScope scope(runtime.context());
  lend_threads_to_torch(runtime);
  const OpenedModel model = open(runtime.context());
  for (const std::string& path : data) evaluate_one(model, path, runtime.context());
}

}  // namespace

void add_evaluate_command(CLI::App& app) {
  auto command = std::make_shared<EvaluateCommand>();
  CLI::App& sub = *app.add_subcommand(
      "evaluate", "How well a model predicts the targets of a dataset, and how often exactly");
  sub.add_option(
         "--data", command->data,
         "Folder of sequences or a .jsonl file, as docs/training.md describes; may be given "
         "several times")
      ->required();
  add_option(sub, "--batch-tokens", command->evaluation.batch_tokens,
             "Tokens run at once, at most");
  add_flag(sub, "--json", command->json, "Print one JSON object a dataset, a line each");
  command->ranking.add_to(sub);
  command->options.add_without_precision_to(sub);
  sub.footer(
      "Targets of weight 0 do not count. Data with the list \"group\", a number for each other "
      "target, is scored by group too.\n"
      "Examples:\n"
      "  perpend evaluate --model runs/recall/model --data data/test\n"
      "  perpend evaluate --model runs/recall/model --data data/test --layers \"causal & (near(32, "
      "7) | sink(32))\" --json\n"
      "  perpend evaluate --model runs/ranker/model --data data/lists --layers \"causal & "
      "(same(doc) | k_in(doc, 0) | q_in(part, 2))\" --blockrank 7 --one-pass");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
