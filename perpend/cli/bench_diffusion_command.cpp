#include <algorithm>
#include <iostream>
#include <numeric>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/bench_options.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/diffusion_benchmark.h"
#include "perpend/cli/report.h"
#include "perpend/nn/device_choice.h"

namespace perpend {
namespace {

using Json = nlohmann::ordered_json;

struct BenchDiffusion {
  DiffusionBenchmark benchmark;
  std::string device = "auto";
  std::string batches = "1";
  std::string rates = "1,2,2.6,4";
  std::string refreshed = "0,0.05,0.1,0.2,1";
  bool json = false;

  void run();

 private:
  void run_blocks(DiffusionTimer& timer) const;
  void run_batch(DiffusionTimer& timer, std::int64_t batch) const;
  void run_canvas(DiffusionTimer& timer) const;
  void print_setup(const DiffusionTimer& timer) const;
  void print_decoding(const Json& object, const std::string& name) const;
  void print_canvas(const Json& object) const;
};

Json object_of(const PassTimes& pass, const DeviceRates& rates) {
  Json object = {{"kind", name_of(pass.kind)},
                 {"rows", pass.rows},
                 {"logit_rows", pass.logit_rows},
                 {"count", pass.ms.size()},
                 {"ms", pass.median_ms()}};
  if (!rates.known() || pass.bytes == 0) return object;
  const double bound = rates.bound_ms(pass.bytes, pass.flops);
  object["bytes_ms"] = rates.bound_ms(pass.bytes, 0);
  object["flops_ms"] = rates.bound_ms(0, pass.flops);
  object["of_bound"] = bound / pass.median_ms();
  return object;
}

Json object_of(const DecodeTimes& times, const DeviceRates& rates) {
  Json object = {{"forwards", times.num_forwards},
                 {"decode_ms", times.decode_ms},
                 {"tokens_per_s", times.tokens_per_s()},
                 {"passes", Json::array()}};
  for (const PassTimes& pass : times.passes) object["passes"].push_back(object_of(pass, rates));
  return object;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void BenchDiffusion::run() {
  benchmark.device = choose_device(device);
  DiffusionTimer timer(benchmark);
  print_setup(timer);
  if (timer.has_full_attention()) {
    run_canvas(timer);
  } else {
    run_blocks(timer);
  }
}

void BenchDiffusion::print_setup(const DiffusionTimer& timer) const {
  const DeviceRates& device_rates = timer.rates();
  const Json object = {{"shape", benchmark.shape},
                       {"device", concat(benchmark.device)},
                       {"prompt", benchmark.prompt},
                       {"tokens", benchmark.tokens},
                       {"graph", timer.is_captured()},
                       {"library_products", benchmark.library_products},
                       {"weight_bytes", timer.weight_bytes()},
                       {"copy_gb_s", device_rates.copy_bytes_per_s / 1e9},
                       {"product_tflops", device_rates.product_flops_per_s / 1e12}};
  if (json) {
    std::cout << object.dump() << std::endl;
    return;
  }
  fmt::print("{} on {}, weights {}, prompt {}, {} tokens, {}\n", benchmark.shape,
             concat(benchmark.device), bytes_text(timer.weight_bytes()), benchmark.prompt,
             benchmark.tokens, timer.is_captured() ? "captured graphs" : "launch by launch");
  if (!device_rates.known()) return;
  fmt::print("bounds: copies of {:.0f} GB/s, products of {:.0f} TFLOP/s\n",
             device_rates.copy_bytes_per_s / 1e9, device_rates.product_flops_per_s / 1e12);
}

void BenchDiffusion::run_blocks(DiffusionTimer& timer) const {
  for (const auto batch : number_list<std::int64_t>("diffusion: --batch", batches, 1, 1024)) {
    run_batch(timer, batch);
  }
}

void BenchDiffusion::run_batch(DiffusionTimer& timer, std::int64_t batch) const {
  const auto report = [&](const DecodeKind& kind, double of_tokens) {
    const DecodeTimes times = timer.decode(batch, kind);
    Json object = {{"batch", batch}};
    std::string name = "autoregressive";
    if (kind.rate > 0) {
      object["cache"] = name_of(kind.cache);
      object["rate"] = kind.rate;
      name = fmt::format("{} a pass, {}", kind.rate, name_of(kind.cache));
    }
    object.update(object_of(times, timer.rates()));
    if (kind.rate > 0) object["over_autoregressive"] = times.tokens_per_s() / of_tokens;
    print_decoding(object, fmt::format("batch {}, {}", batch, name));
    return times.tokens_per_s();
  };
  const double of_tokens = report({.rate = 0}, 0);
  for (const double rate : number_list<double>("diffusion: --rate", rates, 1.0, 1024.0)) {
    for (const CanvasCache cache : {CanvasCache::kBlock, CanvasCache::kSubBlock}) {
      if (cache == CanvasCache::kSubBlock && !timer.has_sub_blocks()) continue;
      report({.rate = rate, .cache = cache}, of_tokens);
    }
  }
}

void BenchDiffusion::print_decoding(const Json& object, const std::string& name) const {
  if (json) {
    std::cout << object.dump() << std::endl;
    return;
  }
  fmt::print("{}: {:.1f} tokens/s in {} passes", name, object["tokens_per_s"].get<double>(),
             object["forwards"].get<std::int64_t>());
  if (object.contains("over_autoregressive")) {
    fmt::print(", {:.2f} times autoregression", object["over_autoregressive"].get<double>());
  }
  fmt::print("\n");
  for (const Json& pass : object["passes"]) {
    fmt::print("  {:9}  x{:<5} {:>6} rows {:>6.1f} logits  {:9.3f} ms",
               pass["kind"].get<std::string>(), pass["count"].get<std::int64_t>(),
               pass["rows"].get<std::int64_t>(), pass["logit_rows"].get<double>(),
               pass["ms"].get<double>());
    if (pass.contains("of_bound")) {
      fmt::print("  bounds: bytes {:.3f} ms, operations {:.3f} ms, {:.0f} %",
                 pass["bytes_ms"].get<double>(), pass["flops_ms"].get<double>(),
                 100 * pass["of_bound"].get<double>());
    }
    fmt::print("\n");
  }
}

// Elastic-Cache against a canvas without a cache. A step makes as many tokens final as replayed, so
// that tokens a second count those behind an end too.
void BenchDiffusion::run_canvas(DiffusionTimer& timer) const {
  const auto shares = number_list<double>("diffusion: --refreshed", refreshed, 0.0, 1.0);
  const auto list = number_list<double>("diffusion: --rate", rates, 1.0, 1024.0);
  constexpr std::int64_t kPasses = 8;
  const DecodeTimes bare = timer.decode(1, {.rate = 1, .cache = CanvasCache::kNone}, kPasses);
  const double bare_ms = bare.passes.back().median_ms();
  print_canvas(
      {{"cache", "none"}, {"rate", 1}, {"step_ms", bare_ms}, {"raw_tokens_per_s", 1e3 / bare_ms}});
  for (const double rate : list) {
    for (const double share : shares) {
      DecodeKind kind{.rate = rate, .cache = CanvasCache::kElastic, .refreshed = share};
      const ElasticTimes times = timer.decode_elastic(kind);
      const std::vector<double>& all = times.all.passes.back().ms;
      const double step_ms = mean(times.step_ms);
      Json object = {{"cache", "elastic"},
                     {"rate", rate},
                     {"refreshed", share},
                     {"found_refreshed", times.refreshed},
                     {"rows", times.rows},
                     {"steps", all.size()},
                     {"first_ms", all.front()},
                     {"step_ms", step_ms},
                     {"raw_tokens_per_s", rate * 1e3 / step_ms},
                     {"over_bare", rate * bare_ms / step_ms}};
      if (!times.reuse_ms.empty()) object["reuse_ms"] = median(times.reuse_ms);
      if (!times.whole_ms.empty()) {
        object["layer_ms"] = median(times.whole_ms) / timer.num_layers();
      }
      if (share == 0 && !times.reuse_ms.empty()) {
        kind.num_measurements = 3;
        const double thrice = median(timer.decode_elastic(kind).reuse_ms);
        object["drift_ms"] = (thrice - median(times.reuse_ms)) / 2;
      }
      print_canvas(object);
    }
  }
}

void BenchDiffusion::print_canvas(const Json& object) const {
  if (json) {
    std::cout << object.dump() << std::endl;
    return;
  }
  const auto value = [&](const char* key) { return object[key].get<double>(); };
  if (object["cache"] == "none") {
    fmt::print("no cache, 1 token a step: {:.3f} ms a step, {:.1f} tokens/s\n", value("step_ms"),
               value("raw_tokens_per_s"));
    return;
  }
  fmt::print(
      "{} a step, {:.0f} % of layers whole (found {:.1f}), {:.1f} rows: {:.3f} ms a step, "
      "{:.1f} tokens/s, {:.2f} times no cache",
      value("rate"), 100 * value("refreshed"), 100 * value("found_refreshed"), value("rows"),
      value("step_ms"), value("raw_tokens_per_s"), value("over_bare"));
  if (object.contains("reuse_ms")) fmt::print("; no layer whole {:.3f} ms", value("reuse_ms"));
  if (object.contains("layer_ms")) fmt::print("; a whole layer {:.3f} ms", value("layer_ms"));
  if (object.contains("drift_ms")) fmt::print("; of it drift {:.3f} ms", value("drift_ms"));
  fmt::print("\n");
}

}  // namespace

void add_bench_diffusion_command(CLI::App& bench) {
  auto command = std::make_shared<BenchDiffusion>();
  DiffusionBenchmark& benchmark = command->benchmark;
  CLI::App& sub = *bench.add_subcommand(
      "diffusion", "Decoding by a diffusion model of random weights, beside autoregression");
  add_shape_options(sub, benchmark.shape, command->device, benchmark.threads);
  add_option(sub, "--prompt", benchmark.prompt, "Tokens of each prompt");
  add_option(sub, "--tokens", benchmark.tokens, "Tokens decoded after it");
  add_option(sub, "--batch", command->batches, "Sequences that are decoded together");
  add_option(sub, "--rate", command->rates,
             "Tokens that a pass makes final; 2.6 is 3 or 2 by turns");
  add_option(sub, "--sub-block", benchmark.sub_block, "As for generate");
  add_option(sub, "--fill-window", benchmark.window,
             "Of full attention: masked tokens that a step may fill");
  add_option(sub, "--tracked", benchmark.tracked, "Of the cache elastic: rows that are tracked");
  add_option(sub, "--refreshed", command->refreshed,
             "Of the cache elastic: shares of layers that compute all rows, by chance");
  add_option(sub, "--chunk", benchmark.chunk, "Prompt tokens run at once");
  add_flag(sub, "--without-graph", benchmark.without_graph,
           "Run launch by launch instead of by captured CUDA graphs");
  add_flag(sub, "--library-products", benchmark.library_products,
           "Decode with the products of LibTorch instead of our own for few rows");
  add_flag(sub, "--json", command->json, "Print one JSON object a line, first what is measured");
  sub.footer(
      "How many tokens a pass makes final is given, since confidences of random weights mean "
      "nothing; all else is as\nin an answer. Blocks end with a pass over the finished block, but "
      "for the last. Bounds are the bytes of weights,\nkeys and values over the rate of a copy, "
      "and operations over that of a product of 8192 x 8192 matrices.\n"
      "Examples:\n"
      "  perpend bench diffusion --shape fast-dllm-v2-7b --batch 1,8,32\n"
      "  perpend bench diffusion --shape nbdiff-7b --prompt 1024 --tokens 512 --rate 1,2,3\n"
      "  perpend bench diffusion --shape llada-8b --prompt 1000 --tokens 512 --rate 3");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
