#include "perpend/io/tokenizer/gguf_tokenizer.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

std::optional<std::int32_t> checked_id(const GgufTokenizerData& data,
                                       std::optional<std::int64_t> id, std::string_view what) {
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(data.tokens.size())) {
    throw IoError(concat(data.name, ": ", what, " id ", *id, " is outside the vocabulary of ",
                         data.tokens.size()));
  }
  return static_cast<std::int32_t>(*id);
}

void check_lengths(const GgufTokenizerData& data) {
  const auto check_length = [&](std::size_t size, std::string_view what) {
    if (size != 0 && size != data.tokens.size()) {
      throw IoError(concat(data.name, ": ", size, " ", what, " for ", data.tokens.size(),
                           " tokens; expected one each"));
    }
  };
  check_length(data.token_types.size(), "token types");
  check_length(data.scores.size(), "scores");
}

void read_entries(const GgufTokenizerData& data, TokenizerPipeline& pipeline) {
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->reserve(data.tokens.size());
  pipeline.ids.reserve(data.tokens.size());
  pipeline.entries.resize(data.tokens.size());
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const GgufTokenType type = type_of(data, i);
    const std::string text = valid_utf8(data.tokens[i]);
    pipeline.add_entry(id, text, type == GgufTokenType::kControl);
    if (is_made_by_model(type)) vocabulary->add(text, id);
    if (type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined) {
      if (text.empty()) continue;
      pipeline.add_added_token(
          {.id = id, .content = text, .special = type == GgufTokenType::kControl});
    }
  }
  pipeline.model_vocabulary = std::move(vocabulary);
}

}  // namespace

GgufTokenType type_of(const GgufTokenizerData& data, std::size_t id) {
  return data.token_types.empty() ? GgufTokenType::kNormal
                                  : static_cast<GgufTokenType>(data.token_types[id]);
}

Tokenizer::Tokenizer(const GgufTokenizerData& data)
    : pipeline_(std::make_unique<TokenizerPipeline>()) {
  TokenizerPipeline& pipeline = *pipeline_;
  pipeline.name = data.name;
  check_lengths(data);
  GgufDefaults defaults;
  const auto unk_id = checked_id(data, data.unk_id, "unk");
  pipeline.bos_id = checked_id(data, data.bos_id, "bos");
  pipeline.eos_id = checked_id(data, data.eos_id, "eos");
  std::optional<std::int32_t> first = pipeline.bos_id;
  std::optional<std::int32_t> last = pipeline.eos_id;
  read_entries(data, pipeline);
  if (data.model == "gpt2") {
    defaults = build_gguf_gpt2(data, pipeline);
  } else if (data.model == "llama") {
    defaults = build_gguf_llama(data, unk_id, pipeline);
  } else if (data.model == "bert") {
    defaults = build_gguf_bert(data, unk_id, pipeline);
    if (const auto cls = checked_id(data, data.cls_id, "cls")) first = cls;
    if (const auto sep = checked_id(data, data.sep_id, "sep")) last = sep;
  } else {
    throw Unsupported(concat(data.name, ": tokenizer.ggml.model '", data.model,
                             "' is not built; gpt2, llama and bert are"));
  }
  auto& parts = pipeline.post_processor.parts;
  if (first && data.add_bos.value_or(defaults.add_bos)) parts.emplace(parts.begin(), *first);
  if (last && data.add_eos.value_or(defaults.add_eos)) parts.emplace_back(*last);
}

}  // namespace perpend
