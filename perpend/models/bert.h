#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <torch/types.h>

#include "perpend/io/checkpoint.h"
#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/nn/linear.h"

namespace perpend {

struct BertConfig {
  std::int64_t vocab_size = 0;
  std::int64_t model_dim = 0;
  std::int64_t ffn_dim = 0;
  int num_layers = 0;
  int num_heads = 0;
  std::int64_t context_length = 0;
  double norm_epsilon = 1e-12;
};

// Reads config.json of a BertModel. Throws IoError and Unsupported (another model_type, activation
// or kind of positions), naming file and key.
BertConfig read_bert_config(const Checkpoint& checkpoint);

// The encoder of BERT (arXiv:1810.04805): learned positions, every token sees every token, norms
// behind the residual connections. For sentence embeddings such as all-MiniLM-L6-v2.
class Bert {
 public:
  // Reads and packs all weights. Throws IoError naming a tensor that is missing or of another
  // shape.
  Bert(const Checkpoint& checkpoint, LinearMode mode, Context& context);

  const BertConfig& config() const { return config_; }

  // The last hidden states [rows, model_dim] f32 of texts, given as tokens one after another; text
  // i has the rows [indptr[i], indptr[i + 1]). Throws InvalidArgument for token ids beyond the
  // vocabulary and texts that are empty or longer than the context.
  torch::Tensor forward(std::span<const std::int32_t> tokens, std::span<const std::int32_t> indptr,
                        Context& context) const;

 private:
  struct Norm {
    torch::Tensor weight;
    torch::Tensor bias;
  };
  struct Layer {
    Linear qkv;
    Linear out;
    Norm attention_norm;
    Linear up;
    Linear down;
    Norm mlp_norm;
  };

  torch::Tensor normed(const Norm& norm, const torch::Tensor& x) const;
  torch::Tensor embedded(std::span<const std::int32_t> tokens,
                         std::span<const std::int32_t> indptr) const;
  torch::Tensor attended(const torch::Tensor& qkv, const torch::Tensor& indptr,
                         Context& context) const;

  BertConfig config_;
  torch::Tensor words_;      // [vocab_size, model_dim]
  torch::Tensor positions_;  // [context_length, model_dim], the first token type added
  Norm embedding_norm_;
  std::vector<Layer> layers_;
};

// Texts as vectors: a BERT encoder with its tokenizer, mean over tokens, length 1.
class TextEmbedder {
 public:
  // Opens a Hugging Face folder. Texts are cut to `max_tokens`, the context if that is less.
  TextEmbedder(const std::string& path, Context& context, std::int64_t max_tokens = 256);

  // [texts, model_dim] f32; each row depends on its own text alone.
  torch::Tensor embed(std::span<const std::string> texts, Context& context) const;
  std::vector<std::int32_t> tokens_of(const std::string& text) const;

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Bert bert_;
  std::int64_t max_tokens_;
};

}  // namespace perpend
