#include <csignal>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/interrupt_scope.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/train/training_run.h"

namespace perpend {
namespace {

struct TrainCommand {
  std::string config_path;
  bool resume = false;
  bool json = false;

  void run() const;
  void print(const LogEntry& last, const std::string& result) const;
};

// "loss 2.314  12345 tokens/s  31.2% MFU"
std::string note_of(const LogEntry& entry) {
  std::string note = fmt::format("loss {:.4g}  {:.0f} tokens/s", entry.loss, entry.tokens_per_s);
  if (entry.mfu > 0) note += fmt::format("  {:.1f}% MFU", 100 * entry.mfu);
  return note;
}

void TrainCommand::print(const LogEntry& last, const std::string& result) const {
  if (json) {
    const nlohmann::json object{{"steps", last.step},
                                {"loss", last.loss},
                                {"tokens", last.tokens},
                                {"tokens_per_s", last.tokens_per_s},
                                {"result", result}};
    std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  fmt::print("{}: {} steps, {} tokens, {}\n", result, last.step, last.tokens, note_of(last));
}

void TrainCommand::run() const {
  TrainConfig config = read_train_config(config_path);
  config.loop.resume = resume;
  const std::int64_t num_steps = config.loop.num_steps;
  TrainingRun training(std::move(config));
  const InterruptScope scope;
  ProgressBar bar("train", num_steps);
  LogEntry last;
  const bool finished = training.run([&](const LogEntry& entry) {
    last = entry;
    bar.update(entry.step, note_of(entry));
    return !InterruptScope::interrupted();
  });
  bar.finish();
  if (!finished) {
    std::cerr << "perpend: stopped behind step " << last.step << "; --resume goes on\n";
    throw CLI::RuntimeError(128 + SIGINT);
  }
  print(last, training.result_path());
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App& sub = *app.add_subcommand("train", "Train a model, whole or as LoRA");
  sub.add_option("config", command->config_path, "TOML file; docs/training.md lists its keys")
      ->required();
  add_flag(sub, "--resume", command->resume, "Go on from the newest state of an earlier run");
  add_flag(sub, "--json", command->json, "Print one JSON object at the end");
  sub.footer(
      "Examples:\n"
      "  perpend train recall.toml\n"
      "  perpend train recall.toml --resume");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
