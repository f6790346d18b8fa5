#include "perpend/cli/model_options.h"

#include "perpend/cli/options.h"
#include "perpend/mask/layer_masks.h"

namespace perpend {

void ModelOptions::add_to(CLI::App& app) {
  add_without_masks_to(app);
  add_option(app, "--layers", layers,
             "Mask of each layer, e.g. \"0-9,20-29: causal & (sink(64) | window(448)); "
             "rest: causal\"");
}

void ModelOptions::add_without_masks_to(CLI::App& app) {
  add_option(app, "--model", model,
             "Name of a fetched model, a .gguf file or a Hugging Face folder");
  add_option(app, "--precision", precision,
             "quantized (weights stay in their blocks) or f32 (exact reference)");
  add_option(app, "--threads", threads, "Host threads; 0: one for each core");
}

LinearMode parse_precision(const std::string& text) {
  if (text == "quantized") return LinearMode::kQuantized;
  if (text == "f32") return LinearMode::kF32;
  throw InvalidArgument(concat("precision: expected quantized or f32 (", text, ")"));
}

ModelSession::ModelSession(const ModelOptions& options)
    : runtime(options.threads),
      model(resolve_model_path(options.model), parse_precision(options.precision),
            runtime.context()),
      kv_dtype(options.precision == "f32" ? DType::kF32 : DType::kF16) {
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
