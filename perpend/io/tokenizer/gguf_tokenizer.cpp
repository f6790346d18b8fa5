#include "perpend/core/error.h"
#include "perpend/io/tokenizer/gguf_tokenizer_data.h"
#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"

namespace perpend {
namespace {

constexpr std::int32_t kControl = 3;
constexpr std::int32_t kUserDefined = 4;

PreTokenizer pre_tokenizer_of(const GgufTokenizerData& data) {
  if (data.pre == "smollm") return PreTokenizer::kSmolLm;
  if (data.pre == "gpt-2" || data.pre.empty() || data.pre == "default") return PreTokenizer::kGpt2;
  if (data.pre == "llama-bpe" || data.pre == "llama3" || data.pre == "llama-v3") {
    return PreTokenizer::kLlama3;
  }
  if (data.pre == "qwen2") return PreTokenizer::kQwen2;
  throw Unsupported(concat(data.name, ": tokenizer.ggml.pre '", data.pre,
                           "' is not built; smollm, gpt-2, llama-bpe and qwen2 are"));
}

std::optional<std::int32_t> checked_id(const GgufTokenizerData& data,
                                       std::optional<std::int64_t> id, std::string_view what) {
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(data.tokens.size())) {
    throw IoError(concat(data.name, ": ", what, " id ", *id, " is outside the vocabulary of ",
                         data.tokens.size()));
  }
  return static_cast<std::int32_t>(*id);
}

void add_merges(const GgufTokenizerData& data, TokenizerPipeline& pipeline) {
  pipeline.merger.reserve(data.merges.size());
  for (const std::string_view merge : data.merges) {
    // The separator is the first blank that leaves something on its left.
    const std::size_t blank = merge.find(' ', 1);
    if (blank == std::string_view::npos) {
      throw IoError(concat(data.name, ": merge '", merge.substr(0, 100), "': expected two tokens"));
    }
    pipeline.add_merge(merge.substr(0, blank), merge.substr(blank + 1));
  }
}

}  // namespace

Tokenizer::Tokenizer(const GgufTokenizerData& data)
    : pipeline_(std::make_unique<TokenizerPipeline>()) {
  TokenizerPipeline& pipeline = *pipeline_;
  pipeline.name = data.name;
  if (data.model != "gpt2") {
    throw Unsupported(concat(data.name, ": tokenizer.ggml.model '", data.model,
                             "' is not built; gpt2 (byte-level BPE) is"));
  }
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size()) {
    throw IoError(concat(data.name, ": ", data.token_types.size(), " token types for ",
                         data.tokens.size(), " tokens"));
  }
  pipeline.pre_tokenizer = pre_tokenizer_of(data);
  pipeline.normalize_nfc = pipeline.pre_tokenizer == PreTokenizer::kQwen2;
  pipeline.ids.reserve(data.tokens.size());
  pipeline.entries.resize(data.tokens.size());
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const std::int32_t type = data.token_types.empty() ? 1 : data.token_types[id];
    pipeline.add_entry(static_cast<std::int32_t>(id), std::string(data.tokens[id]),
                       type == kControl, type == kControl || type == kUserDefined);
  }
  pipeline.finish();
  add_merges(data, pipeline);
  pipeline.bos_id = checked_id(data, data.bos_id, "bos");
  pipeline.eos_id = checked_id(data, data.eos_id, "eos");
  pipeline.add_bos = data.add_bos.value_or(pipeline.pre_tokenizer == PreTokenizer::kLlama3);
  pipeline.add_eos = data.add_eos.value_or(false);
}

}  // namespace perpend
