#include <algorithm>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/bench_options.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/layer_benchmark.h"
#include "perpend/nn/device_choice.h"

namespace perpend {
namespace {

struct BenchTrainLayer {
  LayerBenchmark benchmark;
  std::string device = "auto";
  bool json = false;

  void run();
};

nlohmann::ordered_json object_of(const LayerTime& time) {
  const auto [least, most] = std::minmax_element(time.ms.begin(), time.ms.end());
  return {{"mask", time.mask.str()},
          {"layers", time.num_layers},
          {"ms", time.median_ms()},
          {"min_ms", *least},
          {"max_ms", *most},
          {"product_flops", time.product_flops},
          {"attention_flops", time.attention_flops},
          {"tflops", time.flops() / time.median_ms() / 1e9}};
}

nlohmann::ordered_json object_of(const LayerBenchmark& benchmark, const LayerTimes& times) {
  const double causal_ms = times.causal.num_layers * times.causal.median_ms();
  const double causal_flops = times.causal.num_layers * times.causal.flops();
  nlohmann::ordered_json object = {{"shape", benchmark.shape},
                                   {"device", concat(benchmark.device)},
                                   {"tokens", benchmark.tokens},
                                   {"reps", benchmark.reps},
                                   {"recompute", benchmark.recompute},
                                   {"causal", object_of(times.causal)},
                                   {"kinds", nlohmann::ordered_json::array()},
                                   {"composed_ms", times.composed_ms()},
                                   {"composed_causal_ms", causal_ms},
                                   {"faster", causal_ms / times.composed_ms()},
                                   {"faster_bound", causal_flops / times.composed_flops()}};
  for (const LayerTime& kind : times.kinds) object["kinds"].push_back(object_of(kind));
  return object;
}

void BenchTrainLayer::run() {
  benchmark.device = choose_device(device);
  const auto object = object_of(benchmark, time_layers(benchmark));
  if (json) {
    std::cout << object.dump() << std::endl;
    return;
  }
  for (const auto& kind : object["kinds"]) {
    fmt::print("{:>3} layers  {:9.2f} ms  ({:.2f} to {:.2f})  {:6.1f} TFLOP/s  {}\n",
               kind["layers"].get<int>(), kind["ms"].get<double>(), kind["min_ms"].get<double>(),
               kind["max_ms"].get<double>(), kind["tflops"].get<double>(),
               kind["mask"].get<std::string>());
  }
  fmt::print("composed    {:9.2f} ms, all causal {:.2f} ms: {:.2f} x, bound {:.2f} x\n",
             object["composed_ms"].get<double>(), object["composed_causal_ms"].get<double>(),
             object["faster"].get<double>(), object["faster_bound"].get<double>());
}

}  // namespace

void add_bench_train_layer_command(CLI::App& bench) {
  auto command = std::make_shared<BenchTrainLayer>();
  LayerBenchmark& benchmark = command->benchmark;
  CLI::App& sub = *bench.add_subcommand(
      "train-layer", "Forward and backward of one layer of each mask, composed to a model");
  add_shape_options(sub, benchmark.shape, command->device, benchmark.threads);
  add_mask_options(sub, benchmark.layers, benchmark.preset);
  add_option(sub, "--tokens", benchmark.tokens, "Tokens of the sequence");
  add_option(sub, "--reps", benchmark.reps, "Passes of which the median is taken, behind three");
  add_flag(sub, "--recompute", benchmark.recompute,
           "Keep the layer's input alone and compute the rest again in the backward pass");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  sub.footer(
      "Whole models are composed of the layers' times: embedding, head and optimizer are left out. "
      "The bound is\nthe ratio of operations.\n"
      "Examples:\n"
      "  perpend bench train-layer --tokens 131072 --preset longgen-as");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
