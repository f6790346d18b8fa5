#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/formats/block_format.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

// A GGUF file of the Llama family with a token a byte and one more that ends an answer.
struct TinyLlama {
  static constexpr std::int32_t kEnd = 256;
  static constexpr std::int64_t kVocabSize = 257;

  // Value of one weight; vectors are rows of one column.
  using Weight =
      std::function<float(const std::string& tensor, std::int64_t row, std::int64_t column)>;

  std::int64_t model_dim = 32;
  std::int64_t ffn_dim = 48;
  std::int64_t num_layers = 2;
  std::int64_t num_q_heads = 4;
  std::int64_t num_kv_heads = 2;
  std::int64_t context_length = 512;
  std::int32_t end_token = kEnd;
  // Of matrices; their rows must be whole blocks of it.
  BlockFormat format = BlockFormat::kF32;
  Weight weight;

  // Norms of one, everything else uniform and large enough that attention matters.
  static Weight random(std::uint64_t seed) {
    return
        [generator = Random(seed)](const std::string& tensor, std::int64_t, std::int64_t) mutable {
          const bool norm = tensor.find("norm") != std::string::npos;
          return norm ? 1.0F : (generator.next_float() - 0.5F) * 1.2F;
        };
  }

  // Each byte of `text` is followed by the next, the last one by the end token; the bytes must
  // differ. Needs model_dim >= kVocabSize.
  static Weight chain(std::string text) {
    std::vector<std::int32_t> successor(kVocabSize, kEnd);
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      successor[static_cast<unsigned char>(text[i])] = static_cast<unsigned char>(text[i + 1]);
    }
    return [successor](const std::string& tensor, std::int64_t row, std::int64_t column) {
      if (tensor.find("norm") != std::string::npos) return 1.0F;
      if (tensor == "token_embd.weight") return row == column ? 1.0F : 0.0F;
      if (tensor != "output.weight" || column >= kVocabSize) return 0.0F;
      return successor[static_cast<std::size_t>(column)] == row ? 1.0F : 0.0F;
    };
  }

  void write(const std::string& path) const {
    GgufWriter writer(path, metadata(), tensors());
    for (const TensorSpec& tensor : tensors()) {
      const std::int64_t columns = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
      std::vector<std::byte> bytes;
      for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
        std::vector<float> values;
        for (std::int64_t column = 0; column < columns; ++column) {
          values.push_back(weight(tensor.name, row, column));
        }
        const std::size_t end = bytes.size();
        bytes.resize(end + row_bytes(tensor.format, columns));
        write_row(tensor.format, values, std::span(bytes).subspan(end));
      }
      writer.write(tensor.name, bytes);
    }
    writer.finish();
  }

 private:
  static void write_row(BlockFormat format, std::span<const float> values,
                        std::span<std::byte> to) {
    if (format == BlockFormat::kF32) {
      std::ranges::copy(std::as_bytes(values), to.begin());
    } else {
      quantize_row(format, values, to);
    }
  }

  GgufMetadata metadata() const {
    const auto count = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
    GgufMetadata metadata;
    metadata.set("general.architecture", "llama");
    metadata.set("llama.embedding_length", count(model_dim));
    metadata.set("llama.feed_forward_length", count(ffn_dim));
    metadata.set("llama.block_count", count(num_layers));
    metadata.set("llama.attention.head_count", count(num_q_heads));
    metadata.set("llama.attention.head_count_kv", count(num_kv_heads));
    metadata.set("llama.attention.key_length", count(head_dim()));
    metadata.set("llama.context_length", count(context_length));
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) {
      append_utf8(character_of_byte(static_cast<unsigned char>(byte)), tokens.emplace_back());
    }
    tokens.push_back("<|end|>");
    std::vector<std::int32_t> types(256, 1);
    types.push_back(3);
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "gpt-2");
    metadata.set("tokenizer.ggml.tokens", tokens);
    metadata.set("tokenizer.ggml.token_type", types);
    metadata.set("tokenizer.ggml.merges", std::vector<std::string>());
    metadata.set("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(end_token));
    return metadata;
  }

  std::vector<TensorSpec> tensors() const {
    const std::int64_t q_dim = num_q_heads * head_dim();
    const std::int64_t kv_dim = num_kv_heads * head_dim();
    std::vector<TensorSpec> list;
    const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
      const BlockFormat kind = shape.size() == 2 ? format : BlockFormat::kF32;
      list.push_back({name + ".weight", kind, std::move(shape)});
    };
    add("token_embd", {kVocabSize, model_dim});
    add("output", {kVocabSize, model_dim});
    add("output_norm", {model_dim});
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      add(prefix + "attn_norm", {model_dim});
      add(prefix + "attn_q", {q_dim, model_dim});
      add(prefix + "attn_k", {kv_dim, model_dim});
      add(prefix + "attn_v", {kv_dim, model_dim});
      add(prefix + "attn_output", {model_dim, q_dim});
      add(prefix + "ffn_norm", {model_dim});
      add(prefix + "ffn_gate", {ffn_dim, model_dim});
      add(prefix + "ffn_up", {ffn_dim, model_dim});
      add(prefix + "ffn_down", {model_dim, ffn_dim});
    }
    return list;
  }

  static std::int64_t head_dim() { return 16; }
};

}  // namespace perpend
