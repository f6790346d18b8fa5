#include <array>
#include <chrono>
#include <csignal>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/interrupt_scope.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/report.h"
#include "perpend/core/error.h"
#include "perpend/models/convert/convert.h"
#include "perpend/models/loaded_model.h"

namespace perpend {
namespace {

// Those that values can be put into.
constexpr std::array kFormats = {BlockFormat::kF32,  BlockFormat::kF16,  BlockFormat::kBF16,
                                 BlockFormat::kQ8_0, BlockFormat::kQ4_0, BlockFormat::kQ4_1,
                                 BlockFormat::kQ5_0, BlockFormat::kQ5_1};

// Absent for "keep".
std::optional<BlockFormat> parse_format(const std::string& name) {
  if (name == "keep") return std::nullopt;
  std::string known;
  for (const BlockFormat format : kFormats) {
    if (name_of(format) == name) return format;
    known += concat(name_of(format), ", ");
  }
  throw InvalidArgument(concat("convert: format: expected one of ", known, "keep (", name, ")"));
}

struct ConvertCommand {
  std::string in;
  std::string out;
  std::string format = "keep";
  ChangeFlags change;
  bool force = false;
  bool json = false;
  int threads = 0;

  void run() const;
  std::optional<ConvertReport> convert(const ConvertOptions& options) const;
  void print(const ConvertReport& report, double seconds) const;
};

std::optional<ConvertReport> ConvertCommand::convert(const ConvertOptions& options) const {
  constexpr std::int64_t kMebibyte = 1 << 20;
  const InterruptScope scope;
  ThreadPool pool(threads);
  std::optional<ProgressBar> bar;
  return convert_checkpoint(options, pool, [&](std::int64_t done, std::int64_t total) {
    if (!bar) bar.emplace("convert (MiB)", total / kMebibyte);
    bar->update(done / kMebibyte);
    return !InterruptScope::interrupted();
  });
}

void ConvertCommand::print(const ConvertReport& report, double seconds) const {
  for (const std::string& note : report.notes) std::cerr << "perpend: note: " << note << "\n";
  if (json) {
    const nlohmann::json object{{"in", in},
                                {"out", out},
                                {"format", name_of(report.format)},
                                {"tensors", report.num_tensors},
                                {"bytes_in", report.bytes_in},
                                {"bytes_out", report.bytes_out},
                                {"seconds", seconds}};
    std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  fmt::print("{}: {} tensors, {} -> {} ({}), {:.1f} s\n", out, report.num_tensors,
             bytes_text(report.bytes_in), bytes_text(report.bytes_out), name_of(report.format),
             seconds);
}

void ConvertCommand::run() const {
  const auto start = std::chrono::steady_clock::now();
  ConvertOptions options;
  options.in = resolve_model_path(in);
  options.out = out;
  options.replace = force;
  options.format = parse_format(format);
  options.changes = change.changes();
  const auto report = convert(options);
  if (!report) {
    // What was begun is gone: end as Ctrl-C would have ended the program.
    std::raise(SIGINT);
    return;
  }
  print(*report, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto command = std::make_shared<ConvertCommand>();
  CLI::App& sub = *app.add_subcommand("convert", "Write a model as GGUF or as a folder");
  sub.add_option("in", command->in,
                 "Name of a fetched model, a .gguf file or a Hugging Face folder")
      ->required();
  sub.add_option("out", command->out, "A path ending in .gguf, or a folder to make")->required();
  add_option(sub, "--format", command->format,
             "Of the weights: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, or keep; a folder "
             "holds the first three");
  command->change.add_to(sub);
  add_flag(sub, "--force", command->force, "Replace what is at the target");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  add_option(sub, "--threads", command->threads, "Host threads; 0: one for each core");
  sub.footer(
      "Examples:\n"
      "  perpend convert ./llama-folder llama.q8_0.gguf --format q8_0\n"
      "  perpend convert model.gguf ./model --format bf16\n"
      "  perpend convert smollm2-135m-instruct smollm2.q4_0.gguf --format q4_0 --force\n"
      "  perpend convert ./llama-2 ./llama-2-hybrid --preset longgen-as --rope-base 5e6 "
      "--context 131072");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
