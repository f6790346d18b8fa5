#include "model_file.h"

#include <span>

#include "perpend/io/gguf_writer.h"
#include "perpend/io/tokenizer/tokenizer.h"

void write_model_file(const ModelFile& model, const std::string& path) {
  using Texts = std::vector<std::string>;
  perpend::GgufMetadata metadata;
  metadata.set("consumer.mask", model.mask);
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string("qwen2"));
  metadata.set("tokenizer.ggml.tokens", Texts{"a", "b", "ab"});
  metadata.set("tokenizer.ggml.merges", Texts{"a b"});
  const auto num_values = static_cast<std::int64_t>(model.values.size());
  perpend::GgufWriter writer(path, metadata,
                             {{"values", perpend::BlockFormat::kF32, {num_values}}});
  writer.write("values", std::as_bytes(std::span(model.values)));
  writer.finish();
}

ModelFile read_model_file(const std::string& path) {
  const auto file = perpend::GgufFile::open(path);
  const perpend::StoredTensor* tensor = file.tensor("values");
  ModelFile model{std::string(file.require_string("consumer.mask")),
                  std::vector<float>(static_cast<std::size_t>(tensor->shape[0]))};
  perpend::dequantize_row(tensor->format, tensor->bytes, model.values);
  return model;
}

std::string round_trip(const std::string& path, const std::string& text) {
  const auto tokenizer = perpend::load_gguf_tokenizer(perpend::GgufFile::open(path));
  return tokenizer.decode(tokenizer.encode(text));
}
