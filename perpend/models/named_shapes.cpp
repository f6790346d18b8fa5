#include "perpend/models/named_shapes.h"

#include <algorithm>
#include <array>

#include "perpend/core/concat.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

struct Shape {
  std::string_view name;
  std::string_view architecture;
  int num_layers;
  int model_dim;
  int ffn_dim;
  int num_q_heads;
  int num_kv_heads;
  std::int64_t vocab_size;
  std::int64_t context_length;
  float rope_theta;
  bool tied_embeddings;
};

// From the config.json of each model.
constexpr std::array kShapes = {
    Shape{"dream-7b", "Dream", 28, 3584, 18944, 28, 4, 152064, 131072, 1e6F, false},
    Shape{"fast-dllm-v2-1.5b", "Fast_dLLM_Qwen", 28, 1536, 8960, 12, 2, 151936, 32768, 1e6F, true},
    Shape{"fast-dllm-v2-7b", "Fast_dLLM_Qwen", 28, 3584, 18944, 28, 4, 152064, 32768, 1e6F, false},
    Shape{"llada-8b", "llada", 32, 4096, 12288, 32, 32, 126464, 4096, 5e5F, false},
    Shape{"llama2-7b", "llama", 32, 4096, 11008, 32, 32, 32000, 4096, 1e4F, false},
    Shape{"llama2-70b", "llama", 80, 8192, 28672, 64, 8, 32000, 4096, 1e4F, false},
    Shape{"mistral-7b", "mistral", 32, 4096, 14336, 32, 8, 32000, 32768, 1e4F, false},
    Shape{"nbdiff-7b", "PanguEmbedded", 34, 4096, 12800, 32, 8, 153376, 32768, 1.6e7F, false},
    Shape{"smollm2-135m", "llama", 30, 576, 1536, 9, 3, 49152, 8192, 1e5F, true},
};

}  // namespace

std::optional<ModelConfig> named_shape(std::string_view name) {
  if (name.ends_with(".json")) {
    const std::string path(name);
    return parse_model_config(read_text_file(path), path);
  }
  const auto* shape = std::ranges::find(kShapes, name, &Shape::name);
  if (shape == kShapes.end()) return std::nullopt;
  ModelConfig config;
  config.architecture = shape->architecture;
  config.num_layers = shape->num_layers;
  config.model_dim = shape->model_dim;
  config.ffn_dim = shape->ffn_dim;
  config.num_q_heads = shape->num_q_heads;
  config.num_kv_heads = shape->num_kv_heads;
  config.head_dim = shape->model_dim / shape->num_q_heads;
  config.vocab_size = shape->vocab_size;
  config.context_length = shape->context_length;
  config.tied_embeddings = shape->tied_embeddings;
  config.rotary.rotary_dim = config.head_dim;
  config.rotary.theta = shape->rope_theta;
  config.diffusion = published_diffusion(shape->architecture);
  return config;
}

std::string known_shapes() {
  std::string names;
  for (const Shape& shape : kShapes) names += concat(shape.name, ", ");
  return names + "a config.json";
}

}  // namespace perpend
