#include <cmath>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/decode/teacher_forcing.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

struct PerplexityCommand {
  ModelOptions model;
  std::string text_path;
  std::int64_t window = 1024;
  bool against_f32 = false;
  bool json = false;

  void run();
};

void PerplexityCommand::run() {
  ModelSession session(model);
  const std::string text = read_text_file(text_path);
  const std::vector<std::int32_t> tokens = session.model.encode_text(text);
  TeacherForcing run{.model = session.model,
                     .context = session.runtime.context(),
                     .kv_dtype = session.kv_dtype,
                     .layer_masks = session.layer_masks,
                     .window = window};
  ProgressBar progress("perplexity", static_cast<std::int64_t>(tokens.size()));
  const auto report = [&](std::int64_t done) { progress.update(done); };
  nlohmann::json object;
  if (against_f32) {
    check(model.precision != "f32", "perplexity: --against-f32 compares a run that is not f32");
    ModelOptions reference_options = model;
    reference_options.device = "cpu";
    reference_options.precision = "f32";
    ModelSession reference(reference_options);
    const TeacherForcing exact{.model = reference.model,
                               .context = reference.runtime.context(),
                               .kv_dtype = reference.kv_dtype,
                               .layer_masks = reference.layer_masks,
                               .window = window};
    const Agreement agreement = compare_teacher_forced(run, exact, tokens, report);
    progress.finish();
    object = {{"tokens", agreement.count},
              {"perplexity", std::exp(agreement.mean_nll)},
              {"perplexity_f32", std::exp(agreement.mean_nll_reference)},
              {"top1_agreement", agreement.top1},
              {"mean_kl", agreement.mean_kl}};
  } else {
    const Score score = score_teacher_forced(run, tokens, report);
    progress.finish();
    object = {{"tokens", score.count}, {"perplexity", std::exp(score.mean_nll)}};
  }
  if (json) {
    std::cout << object.dump() << std::endl;
    return;
  }
  for (const auto& [key, value] : object.items()) {
    fmt::print("{:<16} {}\n", key,
               value.is_number_integer() ? fmt::format("{}", value.get<std::int64_t>())
                                         : fmt::format("{:.6g}", value.get<double>()));
  }
}

}  // namespace

void add_perplexity_command(CLI::App& app) {
  auto command = std::make_shared<PerplexityCommand>();
  CLI::App& sub = *app.add_subcommand("perplexity", "How well a model predicts a text");
  add_option(sub, "--text", command->text_path, "Text file, UTF-8")->required();
  add_option(sub, "--window", command->window,
             "Tokens of context; the text is cut into windows of this length");
  add_flag(sub, "--against-f32", command->against_f32,
           "Also run in exact f32 and report agreement of the likeliest token and mean KL");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  command->model.add_to(sub);
  sub.footer(
      "Examples:\n"
      "  perpend perplexity --text book.txt\n"
      "  perpend perplexity --text book.txt --window 4096 --layers \"causal & (sink(64) | "
      "window(960))\"\n"
      "  perpend perplexity --text book.txt --against-f32 --json");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
