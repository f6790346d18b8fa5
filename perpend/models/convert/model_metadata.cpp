#include "perpend/models/convert/model_metadata.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/longgen_config.h"

namespace perpend {
namespace {

// The numbers under general.file_type, which are llama.cpp's.
std::uint32_t file_type_of(BlockFormat format) {
  switch (format) {
    case BlockFormat::kF32:
      return 0;
    case BlockFormat::kF16:
      return 1;
    case BlockFormat::kQ4_0:
      return 2;
    case BlockFormat::kQ4_1:
      return 3;
    case BlockFormat::kQ8_0:
      return 7;
    case BlockFormat::kQ5_0:
      return 8;
    case BlockFormat::kQ5_1:
      return 9;
    case BlockFormat::kQ4_K:
      return 14;
    case BlockFormat::kQ5_K:
      return 16;
    case BlockFormat::kQ6_K:
      return 18;
    case BlockFormat::kBF16:
      return 32;
  }
  bug("file_type_of: unknown format");
}

class MetadataWriter {
 public:
  MetadataWriter(GgufMetadata& metadata, std::string prefix)
      : metadata_(metadata), prefix_(std::move(prefix)) {}

  void count(std::string_view key, std::int64_t value) {
    metadata_.set(concat(prefix_, key), static_cast<std::uint32_t>(value));
  }
  void number(std::string_view key, float value) { metadata_.set(concat(prefix_, key), value); }
  void text(std::string_view key, std::string value) {
    metadata_.set(concat(prefix_, key), std::move(value));
  }

 private:
  GgufMetadata& metadata_;
  std::string prefix_;
};

void add_rotary(const RotaryConfig& rotary, MetadataWriter& to) {
  to.count("rope.dimension_count", rotary.rotary_dim);
  to.number("rope.freq_base", rotary.theta);
  if (rotary.linear_factor != 1) {
    to.text("rope.scaling.type", "linear");
    to.number("rope.scaling.factor", rotary.linear_factor);
  }
  if (rotary.llama3) {
    to.count("rope.scaling.original_context_length",
             static_cast<std::int64_t>(rotary.llama3->original_context));
  }
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) {
  if (published_diffusion(config.architecture)) {
    throw Unsupported(concat("convert: GGUF has no architecture for model_type ",
                             config.architecture, "; a Hugging Face folder keeps it"));
  }
  return config.architecture == "mistral" ? "llama" : config.architecture;
}

void add_model_metadata(const ModelConfig& config, std::string_view name, GgufMetadata& metadata) {
  const std::string architecture = gguf_architecture(config);
  metadata.set("general.architecture", architecture);
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", std::string(name));
  MetadataWriter to(metadata, architecture + ".");
  to.count("context_length", config.context_length);
  to.count("embedding_length", config.model_dim);
  to.count("block_count", config.num_layers);
  to.count("feed_forward_length", config.ffn_dim);
  to.count("vocab_size", config.vocab_size);
  to.count("attention.head_count", config.num_q_heads);
  to.count("attention.head_count_kv", config.num_kv_heads);
  to.count("attention.key_length", config.head_dim);
  to.count("attention.value_length", config.head_dim);
  to.number("attention.layer_norm_rms_epsilon", config.rms_epsilon);
  add_rotary(config.rotary, to);
  if (config.longgen) set_longgen(*config.longgen, architecture, metadata);
  if (config.diffusion) set_diffusion(*config.diffusion, architecture, metadata);
  if (config.blockrank) set_blockrank(*config.blockrank, architecture, metadata);
}

void set_model_changes(const ModelConfig& config, const ModelChanges& changes,
                       GgufMetadata& metadata) {
  const std::string architecture = gguf_architecture(config);
  MetadataWriter to(metadata, architecture + ".");
  if (changes.context_length) to.count("context_length", *changes.context_length);
  if (changes.rope_theta) to.number("rope.freq_base", *changes.rope_theta);
  if (!changes.preset.empty()) set_longgen(*config.longgen, architecture, metadata);
  if (changes.diffusion) set_diffusion(*config.diffusion, architecture, metadata);
}

void set_file_type(BlockFormat format, GgufMetadata& metadata) {
  constexpr std::uint32_t kQuantizationVersion = 2;
  metadata.set("general.file_type", file_type_of(format));
  if (info_of(format).block_size > 1) {
    metadata.set("general.quantization_version", kQuantizationVersion);
  }
}

}  // namespace perpend
