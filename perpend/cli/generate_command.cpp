#include <iostream>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/batch_generation.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/comparison.h"
#include "perpend/cli/denoising_replay.h"
#include "perpend/cli/denoising_trace.h"
#include "perpend/cli/denoising_view.h"
#include "perpend/cli/diffusion_flags.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/prompt_source.h"
#include "perpend/cli/report.h"

namespace perpend {
namespace {

struct GenerateCommand {
  ModelOptions model;
  GenerationFlags generation;
  DiffusionFlags diffusion;
  ComparisonFlags comparison;
  bool show_denoising = false;
  std::string trace;
  std::string replay;
  std::string font = PERPEND_FONT;
  std::optional<std::string> prompt;
  PromptForm form;
  BatchFlags batch;
  bool json = false;

  void run();
  // Throws InvalidArgument for flags that exclude each other or need others.
  void check_flags() const;
  void run_batch(ModelSession& session);
  void run_comparison(ModelSession& session);
  // Options of a diffusion model; throws InvalidArgument where they are given for any other.
  DiffusionOptions diffusion_options(const LoadedModel& loaded) const;
};

void GenerateCommand::check_flags() const {
  check(!(form.chat && form.raw), "generate: --chat and --raw exclude each other");
  check(batch.file.empty() || !prompt, "generate: a prompt and --batch exclude each other");
  check(!batch.file.empty() || (!batch.ids && batch.summary.empty()),
        "generate: --ids and --summary are for --batch");
  check(batch.batch_size > 0,
        concat("generate: --batch-size must be positive (", batch.batch_size, ")"));
  comparison.check_flags();
  const bool watched = show_denoising || !trace.empty() || !replay.empty();
  check(!comparison.given() || !watched,
        "generate: comparisons exclude --show-denoising, --trace and --replay");
  check(!comparison.given() || (!batch.ids && batch.summary.empty()),
        "generate: comparisons exclude --ids and --summary");
  check(batch.file.empty() || !watched,
        "generate: --show-denoising, --trace and --replay are for one prompt, not for --batch");
}

DiffusionOptions GenerateCommand::diffusion_options(const LoadedModel& loaded) const {
  if (loaded.diffusion()) return diffusion.options();
  diffusion.check_not_given();
  check(!show_denoising && trace.empty() && replay.empty(),
        "generate: --show-denoising, --trace and --replay are for models of diffusion alone");
  return {};
}

void GenerateCommand::run_batch(ModelSession& session) {
  const int status = generate_batch(session, session.runtime.context(), batch,
                                    {.options = generation.options, .form = form});
  if (status != 0) throw CLI::RuntimeError(status);
}

void GenerateCommand::run_comparison(ModelSession& session) {
  Comparison both(comparison, model, session);
  const BatchDefaults defaults{.options = generation.options, .form = form};
  if (!batch.file.empty()) {
    const int status = both.run_batch(batch.file, defaults, json);
    if (status != 0) throw CLI::RuntimeError(status);
    return;
  }
  const std::string text = read_prompt(prompt);
  both.run(
      [&](const LoadedModel& loaded) {
        return ComparedRequest{form.encode(loaded, text), generation.options};
      },
      json);
}

void GenerateCommand::run() {
  check_flags();
  check_options(generation.options.sampler);
  std::optional<DenoisingReplay> pictures;
  if (!replay.empty()) pictures.emplace(replay, font);
  ModelSession session(model);
  generation.options.layer_masks = session.layer_masks;
  generation.options.diffusion = diffusion_options(session.model);
  if (comparison.given()) return run_comparison(session);
  if (!batch.file.empty()) return run_batch(session);
  const std::string text = read_prompt(prompt);
  const std::vector<std::int32_t> tokens = form.encode(session.model, text);
  const auto prompt_tokens = static_cast<std::int64_t>(tokens.size());

  GenerateCallbacks callbacks;
  ProgressBar progress("prompt", prompt_tokens);
  callbacks.on_prefill = [&](std::int64_t done, std::int64_t /*total*/) {
    progress.update(done);
    return true;
  };
  const Tokenizer& tokenizer = session.model.tokenizer();
  const DenoisingView::Size terminal = terminal_size();
  DenoisingView view(tokenizer, terminal.columns > 0 ? std::cout : std::cerr, terminal);
  DenoisingTrace steps;
  if (show_denoising || !trace.empty() || pictures) {
    generation.options.diffusion.on_step = [&](const CanvasStep& step) {
      if (!trace.empty()) steps.add(step, tokenizer);
      if (pictures) pictures->add(step);
      if (show_denoising) view.show(step, prompt_tokens);
    };
  }
  // The view draws the answer itself on a terminal.
  const bool draws_answer = show_denoising && terminal.columns > 0;
  if (!json && !draws_answer) {
    callbacks.on_text = [&](std::string_view characters) {
      progress.finish();
      std::cout << characters << std::flush;
      return std::cout.good();
    };
  }
  TextGenerator generator(session.model, session.runtime.context(), session.kv_dtype);
  const GenerateResult result = generator.generate(tokens, generation.options, callbacks);
  progress.finish();
  view.finish();
  if (!trace.empty()) {
    const DiffusionOptions& options = generation.options.diffusion;
    steps.write(trace, result, decide(*session.model.diffusion(), options).model);
  }
  if (pictures) pictures->write(text, result, tokenizer);
  if (!json) {
    if (draws_answer) std::cout << result.text;
    std::cout << std::endl;
    std::cerr << report_line(result) << "\n";
    return;
  }
  nlohmann::json object = to_json(result);
  object["seed"] = generation.options.sampler.seed;
  if (generation.options.num_top_logprobs > 0) {
    object["logprobs"] = logprobs_of(result, tokenizer);
  }
  std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto command = std::make_shared<GenerateCommand>();
  CLI::App& sub = *app.add_subcommand("generate", "Write text after a prompt");
  sub.add_option("prompt", command->prompt, "The prompt; - reads standard input");
  add_flag(sub, "--chat", command->form.chat,
           "Use the chat form even if the model names no template");
  add_flag(sub, "--raw", command->form.raw,
           "Continue the prompt as it stands, without the chat form");
  add_option(sub, "--system", command->form.system, "System message of the chat form");
  add_flag(sub, "--json", command->json, "Print one JSON object instead of text");
  add_option(sub, "--logprobs", command->generation.options.num_top_logprobs,
             "Alternatives listed beside each token in the JSON");
  add_flag(sub, "--show-denoising", command->show_denoising,
           "Show how a diffusion model fills its blocks");
  add_option(sub, "--batch", command->batch.file,
             "A file of JSON lines, or -: the request of each {\"prompt\" or \"messages\", \"id\", "
             "\"max_tokens\", \"seed\", ...}, answered side by side");
  add_option(sub, "--batch-size", command->batch.batch_size, "Of --batch: requests at a time");
  add_option(sub, "--kv-tokens", command->batch.kv_tokens,
             "Of --batch: tokens whose keys are held at a time; 0: enough for --batch-size of the "
             "longest requests");
  add_flag(sub, "--ids", command->batch.ids, "Of --batch: add the tokens of prompt and answer");
  add_option(sub, "--summary", command->batch.summary,
             "Of --batch: a JSON file for what all answers come to");
  add_option(sub, "--trace", command->trace, "A JSON file for every step of a diffusion model");
  add_option(sub, "--replay", command->replay,
             "An animated PNG of how a diffusion model fills its blocks");
  add_option(sub, "--font", command->font, "Of --replay: a font file with letters of one width");
  command->model.add_to(sub);
  command->generation.add_to(sub);
  command->diffusion.add_to(sub);
  command->comparison.add_to(sub);
  sub.footer(
      "Examples:\n"
      "  perpend generate \"Why is the sky blue?\"\n"
      "  cat letter.txt | perpend generate - --system \"Summarise in one sentence.\"\n"
      "  perpend generate \"Once upon a time\" --raw --temperature 0 --max-tokens 64 --json\n"
      "  perpend generate - --layers \"0-9,20-29: causal & (sink(64) | window(448)); rest: causal\""
      " < long.txt\n"
      "  perpend generate --batch questions.jsonl --batch-size 32 > answers.jsonl");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
