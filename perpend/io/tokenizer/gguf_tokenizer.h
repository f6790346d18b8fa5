#pragma once

#include <cstdint>
#include <optional>

#include "perpend/io/tokenizer/gguf_tokenizer_data.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"

namespace perpend {

enum class GgufTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

GgufTokenType type_of(const GgufTokenizerData& data, std::size_t id);

// Whether plain text can become such a token.
constexpr bool is_made_by_model(GgufTokenType type) {
  return type != GgufTokenType::kControl && type != GgufTokenType::kUnknown;
}

// What a kind of tokenizer does where the file does not say.
struct GgufDefaults {
  bool add_bos = false;
  bool add_eos = false;
};

// Each fills in what is particular to one tokenizer.ggml.model; the entries and the model's
// vocabulary are there already.
GgufDefaults build_gguf_gpt2(const GgufTokenizerData& data, TokenizerPipeline& pipeline);
GgufDefaults build_gguf_llama(const GgufTokenizerData& data, std::optional<std::int32_t> unk_id,
                              TokenizerPipeline& pipeline);
GgufDefaults build_gguf_bert(const GgufTokenizerData& data, std::optional<std::int32_t> unk_id,
                             TokenizerPipeline& pipeline);

}  // namespace perpend
