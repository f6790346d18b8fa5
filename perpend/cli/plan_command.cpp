#include <iostream>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/report.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/loaded_model.h"
#include "perpend/models/model_plan.h"
#include "perpend/models/named_shapes.h"

namespace perpend {
namespace {

struct PlanCommand {
  std::string model = "smollm2-135m";
  std::string preset;
  std::string layers;
  std::int64_t context = 0;
  std::int64_t batch = 1;
  double bandwidth = 3.35;  // TB/s: of an H100 SXM
  bool json = false;

  void run() const;
};

ModelConfig config_of(const std::string& model) {
  if (const auto shape = named_shape(model)) return *shape;
  try {
    return read_model_config(Checkpoint::open(resolve_model_path(model)));
  } catch (const IoError& error) {
    throw IoError(concat(error.what(), "; known as a shape: ", known_shapes()));
  }
}

// "0-9,22-31", the layers that have `mask`.
std::string layers_with(const ModelPlan& plan, const Mask& mask) {
  std::string text;
  const auto count = static_cast<int>(plan.layers.size());
  const auto has = [&](int layer) {
    return plan.layers[static_cast<std::size_t>(layer)].mask == mask;
  };
  for (int first = 0; first < count; ++first) {
    if (!has(first)) continue;
    int last = first;
    while (last + 1 < count && has(last + 1)) ++last;
    text += concat(text.empty() ? "" : ",", first);
    if (last > first) text += concat("-", last);
    first = last;
  }
  return text;
}

std::vector<LayerPlan> distinct_layers(const ModelPlan& plan) {
  std::vector<LayerPlan> distinct;
  for (const LayerPlan& layer : plan.layers) {
    if (std::ranges::find(distinct, layer.mask, &LayerPlan::mask) == distinct.end()) {
      distinct.push_back(layer);
    }
  }
  return distinct;
}

nlohmann::json to_json(const WorkPlan& work, const ModelPlan& plan) {
  return {{"kv_bytes", work.kv_bytes},
          {"attention_flops", work.attention_flops},
          {"prefill_flops", plan.linear_flops + work.attention_flops},
          {"decode_bytes", work.decode_bytes},
          {"decode_ms", 1e3 * plan.decode_seconds(work)}};
}

nlohmann::json to_json(const ModelPlan& plan, const ModelConfig& config) {
  auto layers = nlohmann::json::array();
  for (const LayerPlan& layer : distinct_layers(plan)) {
    layers.push_back({{"layers", layers_with(plan, layer.mask)},
                      {"mask", layer.mask.str()},
                      {"live_tiles", static_cast<double>(layer.live_blocks) / config.num_q_heads},
                      {"live_pairs", static_cast<double>(layer.live_pairs) / config.num_q_heads},
                      {"cached_blocks", layer.cached_blocks}});
  }
  return {{"parameters", plan.num_parameters},
          {"weight_bytes", plan.weight_bytes},
          {"linear_flops", plan.linear_flops},
          {"layers", layers},
          {"planned", to_json(plan.planned, plan)},
          {"dense", to_json(plan.dense, plan)},
          {"kv_cut", plan.kv_cut()},
          {"prefill_bound", plan.prefill_bound()},
          {"training_bound", plan.training_bound()},
          {"decode_bound", plan.decode_bound()}};
}

void print(const ModelPlan& plan, const ModelConfig& config, const PlanCommand& command,
           std::int64_t context) {
  const auto line = [](std::string_view name, const std::string& value) {
    fmt::print("{:<10} {}\n", name, value);
  };
  line("model", fmt::format("{}: {} parameters, {} in bf16", command.model, plan.num_parameters,
                            bytes_text(plan.weight_bytes)));
  line("context", fmt::format("{} tokens, batch {}", context, command.batch));
  for (const LayerPlan& layer : distinct_layers(plan)) {
    line("layers", fmt::format("{}: {}; {:.0f} live tiles of 64 x 64 a head, {} blocks cached",
                               layers_with(plan, layer.mask), layer.mask.str(),
                               static_cast<double>(layer.live_blocks) / config.num_q_heads,
                               layer.cached_blocks));
  }
  const auto teraflops = [](double flops) { return fmt::format("{:.1f} TFLOP", flops * 1e-12); };
  const auto row = [](std::string_view name, const std::string& planned, const std::string& dense,
                      const std::string& bound) {
    fmt::print("{:<10} {:>14} {:>14}{}{}\n", name, planned, dense, bound.empty() ? "" : "  ",
               bound);
  };
  row("", "planned", "all causal", "bound");
  row("KV", bytes_text(plan.planned.kv_bytes), bytes_text(plan.dense.kv_bytes),
      fmt::format("{:.2f} % less", 100 * plan.kv_cut()));
  row("linear", teraflops(plan.linear_flops), teraflops(plan.linear_flops), "");
  row("attention", teraflops(plan.planned.attention_flops), teraflops(plan.dense.attention_flops),
      "");
  row("prefill", teraflops(plan.linear_flops + plan.planned.attention_flops),
      teraflops(plan.linear_flops + plan.dense.attention_flops),
      fmt::format("{:.2f} x", plan.prefill_bound()));
  row("training", "", "", fmt::format("{:.2f} x", plan.training_bound()));
  const auto step = [&](const WorkPlan& work) {
    return fmt::format("{:.2f} ms", 1e3 * plan.decode_seconds(work));
  };
  row("decode", step(plan.planned), step(plan.dense), fmt::format("{:.2f} x", plan.decode_bound()));
}

void PlanCommand::run() const {
  check(preset.empty() || layers.empty(),
        "--preset and --layers exclude each other: both say what the layers see");
  const ModelConfig config =
      changed(config_of(model), ChangeFlags{.preset = preset, .context = context}.changes());
  const std::vector<Mask> masks =
      layers.empty() ? default_masks(config) : parse_layer_masks(layers, config.num_layers);
  const ModelPlan plan = plan_model(
      config, masks,
      {.num_tokens = config.context_length, .batch = batch, .bytes_per_second = bandwidth * 1e12});
  if (json) {
    std::cout << to_json(plan, config).dump(2) << std::endl;
  } else {
    print(plan, config, *this, config.context_length);
  }
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto command = std::make_shared<PlanCommand>();
  CLI::App& sub = *app.add_subcommand("plan", "What a model costs at a context, by its masks");
  add_option(sub, "--model", command->model,
             concat("A shape (", known_shapes(),
                    "), or a model as for generate; weights are not "
                    "read"));
  add_option(sub, "--preset", command->preset,
             "longgen-as or longgen-bs, with parameters as for generate");
  add_option(sub, "--layers", command->layers, "Mask of each layer, as for generate");
  add_option(sub, "--context", command->context, "Tokens of a sequence; 0: all the model takes");
  add_option(sub, "--batch", command->batch, "Sequences");
  add_option(sub, "--bandwidth", command->bandwidth, "Of the memory that decoding reads, in TB/s");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  sub.footer(
      "Bounds count work alone: matrices and attention in bf16, causal layers by visible pairs, "
      "others by whole blocks of 64 tokens; training is 3 times the matrices and 3.5 times the "
      "attention of a prefill; a decoding step reads weights and keys once.\n"
      "Examples:\n"
      "  perpend plan --model llama2-7b --preset longgen-as --context 131072\n"
      "  perpend plan --model llama2-70b --preset \"longgen-bs(n_full=27)\" --context 131072 "
      "--batch 8 --json");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
