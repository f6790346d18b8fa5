#include "perpend/cli/model_options.h"

#include <filesystem>

#include "perpend/cli/options.h"
#include "perpend/cli/shipped_adapters.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/nn/device_choice.h"

namespace perpend {

void ModelOptions::add_to(CLI::App& app) {
  add_without_masks_to(app);
  add_mask_options(app);
}

void ModelOptions::add_without_precision_to(CLI::App& app) {
  add_place_options(app);
  add_mask_options(app);
}

void ModelOptions::add_place_options(CLI::App& app) {
  add_option(
      app, "--model", model,
      "Name of a fetched model, a .gguf file, a Hugging Face folder, or an adapter that comes "
      "with perpend: smollm2-diffusion, debian-ranker");
  add_option(app, "--adapter", adapter,
             "Folder of a LoRA adapter (PEFT, perpend train) that is merged into the weights");
  add_option(app, "--device", device,
             "cpu, cuda, cuda:N, or auto: a GPU where this build and this machine have one");
  add_option(app, "--threads", threads, "Host threads; 0: one for each core");
}

void ModelOptions::add_mask_options(CLI::App& app) {
  add_option(app, "--layers", layers,
             "Mask of each layer, e.g. \"0-9,20-29: causal & (sink(64) | window(448)); "
             "rest: causal\"");
  change.add_to(app);
}

void ModelOptions::add_without_masks_to(CLI::App& app) {
  add_place_options(app);
  add_option(
      app, "--precision", precision,
      "quantized (weights stay in their blocks) or f32 (exact reference) on a CPU, bf16 on a "
      "GPU; auto: quantized or bf16");
}

void ChangeFlags::add_to(CLI::App& app) {
  add_option(app, "--preset", preset,
             "Masks of a paper: longgen-as or longgen-bs, with parameters as in \"longgen-as("
             "n_full=12, sink=1, window=31, block=64)\"; excludes --layers");
  add_option(app, "--diffusion", diffusion,
             "Takes the model for one that fills masked tokens: what \"diffusion\" in its "
             "config.json would be, e.g. '{\"attention\": \"block\", \"mask_token_id\": 16}'");
  add_option(app, "--rope-base", rope_base,
             "Base of the rotary frequencies (theta); 0: as the model says");
  add_option(app, "--context", context, "Tokens that the model may be given; 0: as the model says");
}

ModelChanges ChangeFlags::changes() const {
  ModelChanges result;
  result.preset = preset;
  if (!diffusion.empty()) result.diffusion = parse_diffusion_object(diffusion, "--diffusion");
  if (rope_base != 0) result.rope_theta = rope_base;
  if (context != 0) result.context_length = context;
  return result;
}

ModelChanges ModelOptions::changes() const {
  check(change.preset.empty() || layers.empty(),
        "--preset and --layers exclude each other: both say what the layers see");
  return change.changes();
}

ModelPlace ModelOptions::place() const {
  std::error_code error;
  if (!is_shipped_adapter(model) || std::filesystem::exists(model, error)) {
    return {resolve_model_path(model), adapter};
  }
  check(adapter.empty(), concat("--adapter: the model ", model, " is an adapter itself"));
  return {resolve_model_path(ModelOptions().model), shipped_adapter(model)};
}

Device ModelOptions::chosen_device() const {
  // What only a CPU has needs no GPU.
  const bool for_cpu = precision == "quantized" || precision == "f32";
  return for_cpu && device == "auto" ? Device{} : choose_device(device);
}

WeightForm ModelOptions::chosen_form() const {
  const bool on_cpu = chosen_device().type == DeviceType::kCpu;
  if (precision == "auto") return on_cpu ? WeightForm(LinearMode::kQuantized) : torch::kBFloat16;
  if (precision == "bf16") {
    if (!on_cpu) return torch::kBFloat16;
    throw Unsupported("precision bf16: needs a GPU; a CPU has quantized and f32");
  }
  check(precision == "quantized" || precision == "f32",
        concat("precision: expected auto, quantized, f32 or bf16 (", precision, ")"));
  if (!on_cpu) throw Unsupported(concat("precision ", precision, ": a GPU has only bf16 so far"));
  return precision == "f32" ? LinearMode::kF32 : LinearMode::kQuantized;
}

namespace {

DType kv_dtype_of(const ModelOptions& options) {
  if (options.chosen_device().type == DeviceType::kCuda) return DType::kBF16;
  return options.precision == "f32" ? DType::kF32 : DType::kF16;
}

}  // namespace

ModelSession::ModelSession(const ModelOptions& options, const ModelPlace& place, bool ranks_only)
    : runtime(options.chosen_device(), options.threads),
      model(place.path, options.chosen_form(), runtime.context(),
            {.changes = options.changes(), .adapter = place.adapter, .ranks_only = ranks_only}),
      kv_dtype(kv_dtype_of(options)) {
  if (!options.layers.empty()) {
    layer_masks = parse_layer_masks(options.layers, model.config().num_layers);
  }
}

GenerationFlags::GenerationFlags() {
  options.sampler.temperature = 0.7F;
  options.sampler.top_p = 0.95F;
}

void GenerationFlags::add_to(CLI::App& app) {
  SamplerOptions& sampler = options.sampler;
  add_option(app, "--max-tokens", options.max_tokens, "Longest answer, in tokens");
  add_option(app, "--temperature", sampler.temperature, "0: always the likeliest token");
  add_option(app, "--top-k", sampler.top_k, "Only the k likeliest tokens; 0: no limit");
  add_option(app, "--top-p", sampler.top_p, "Only the likeliest tokens that together reach p");
  add_option(app, "--min-p", sampler.min_p,
             "Only tokens with at least this share of the likeliest one's probability");
  add_option(app, "--repetition-penalty", sampler.repetition_penalty,
             "Above 1 makes tokens that occurred before less likely");
  add_option(app, "--seed", sampler.seed, "The same seed gives the same answer");
  add_option(app, "--stop", options.stop, "Text that ends the answer; may be given several times");
  add_option(app, "--prefill-chunk", options.prefill_chunk, "Prompt tokens run at once");
}

}  // namespace perpend
