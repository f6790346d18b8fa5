#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/bench_options.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/model_benchmark.h"
#include "perpend/cli/report.h"
#include "perpend/nn/device_choice.h"

namespace perpend {
namespace {

struct BenchModel {
  ModelBenchmark benchmark;
  std::string device = "auto";
  bool json = false;

  void run();
};

nlohmann::json object_of(const ModelBenchmark& benchmark, const ModelTimes& times) {
  nlohmann::json object = {
      {"shape", benchmark.shape},
      {"device", concat(benchmark.device)},
      {"layers", benchmark.layers},
      {"preset", benchmark.preset},
      {"prompt", benchmark.prompt},
      {"tokens", benchmark.tokens},
      {"batch", benchmark.batch},
      {"chunk", benchmark.chunk},
      {"graph", times.is_captured},
      {"library_products", times.uses_library_products},
      {"prefill_ms", times.prefill_ms},
      {"prefill_flops", times.prefill_flops},
      {"decode_ms", times.decode_ms},
      {"first_decode_ms", times.first_decode_ms},
      {"decode_bytes", times.decode_bytes},
      {"decode_tokens_per_s", static_cast<double>(benchmark.batch) / times.decode_ms * 1e3},
      {"weight_bytes", times.weight_bytes},
      {"kv_bytes", times.kv_bytes},
      {"kv_peak_bytes", times.kv_peak_bytes}};
  if (!times.rates.known()) return object;
  object["copy_gb_s"] = times.rates.copy_bytes_per_s / 1e9;
  object["product_tflops"] = times.rates.product_flops_per_s / 1e12;
  object["prefill_bound_ms"] = times.prefill_bound_ms();
  object["decode_bound_ms"] = times.decode_bound_ms();
  object["prefill_of_bound"] = times.prefill_bound_ms() / times.prefill_ms;
  object["decode_of_bound"] = times.decode_bound_ms() / times.decode_ms;
  return object;
}

void print(const ModelBenchmark& benchmark, const ModelTimes& times) {
  const auto tokens = static_cast<double>(benchmark.batch);
  fmt::print("{} on {}: weights {}, KV {} (peak {})\n", benchmark.shape, concat(benchmark.device),
             bytes_text(times.weight_bytes), bytes_text(times.kv_bytes),
             bytes_text(times.kv_peak_bytes));
  fmt::print("prefill {:9.3f} ms  {:9.1f} tokens/s  {:7.1f} TFLOP/s\n", times.prefill_ms,
             tokens * static_cast<double>(benchmark.prompt) / times.prefill_ms * 1e3,
             times.prefill_flops / times.prefill_ms / 1e9);
  fmt::print("decode  {:9.3f} ms  {:9.1f} tokens/s  {:7.1f} GB/s\n", times.decode_ms,
             tokens / times.decode_ms * 1e3, times.decode_bytes / times.decode_ms / 1e6);
  if (!times.rates.known()) return;
  fmt::print(
      "bounds: prefill {:.3f} ms ({:.0f} TFLOP/s), decode {:.3f} ms ({:.0f} GB/s): "
      "{:.0f} % and {:.0f} % of them\n",
      times.prefill_bound_ms(), times.rates.product_flops_per_s / 1e12, times.decode_bound_ms(),
      times.rates.copy_bytes_per_s / 1e9, 100 * times.prefill_bound_ms() / times.prefill_ms,
      100 * times.decode_bound_ms() / times.decode_ms);
}

void BenchModel::run() {
  benchmark.device = choose_device(device);
  const ModelTimes times = time_model(benchmark);
  if (json) {
    std::cout << object_of(benchmark, times).dump() << std::endl;
  } else {
    print(benchmark, times);
  }
}

}  // namespace

void add_bench_model_command(CLI::App& bench) {
  auto command = std::make_shared<BenchModel>();
  ModelBenchmark& benchmark = command->benchmark;
  CLI::App& sub = *bench.add_subcommand(
      "model", "Prefill and decoding of a model of random weights, each with what bounds it");
  add_shape_options(sub, benchmark.shape, command->device, benchmark.threads);
  add_mask_options(sub, benchmark.layers, benchmark.preset);
  add_option(sub, "--prompt", benchmark.prompt, "Tokens of each prompt");
  add_option(sub, "--tokens", benchmark.tokens, "Tokens decoded after it");
  add_option(sub, "--batch", benchmark.batch, "Sequences that are decoded together");
  add_option(sub, "--chunk", benchmark.chunk, "Prompt tokens run at once");
  add_option(sub, "--reps", benchmark.reps, "Prefills of which the median is taken");
  add_flag(sub, "--without-graph", benchmark.without_graph,
           "Decode launch by launch instead of by a captured CUDA graph");
  add_flag(sub, "--library-products", benchmark.library_products,
           "Decode with the products of LibTorch instead of our own for few rows");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  sub.footer(
      "The bound of prefill is its operations over the rate of a product of 8192 x 8192 matrices, "
      "that of decoding\nthe bytes of weights, keys and values over the rate of a copy, both "
      "measured in the same run.\n"
      "Examples:\n"
      "  perpend bench model --shape llama2-7b --prompt 4096 --tokens 128\n"
      "  perpend bench model --shape smollm2-135m --batch 32 --json\n"
      "  perpend bench model --shape llama2-7b --prompt 131072 --preset longgen-as\n"
      "  perpend bench model --shape mistral-7b --prompt 131072 --layers \"0-9,20-31: causal & "
      "(sink(64) | near(64, 31)); rest: causal\"");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
