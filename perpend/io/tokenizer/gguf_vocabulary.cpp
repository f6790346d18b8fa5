#include "perpend/io/tokenizer/gguf_vocabulary.h"

#include <utility>

#include "perpend/core/concat.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"

namespace perpend {
namespace {

std::vector<std::string_view> views_of(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

std::string gap_token(std::size_t id) { return concat("[PAD", id, "]"); }

}  // namespace

bool is_gap_token(std::string_view text, std::size_t id) { return text == gap_token(id); }

void GgufVocabulary::pad_to(std::size_t count) {
  while (tokens.size() < count) {
    tokens.push_back(gap_token(tokens.size()));
    token_types.push_back(static_cast<std::int32_t>(GgufTokenType::kUnused));
    if (!scores.empty()) scores.push_back(0);
  }
}

Tokenizer GgufVocabulary::tokenizer(std::string name) const {
  const auto token_views = views_of(tokens);
  const auto merge_views = views_of(merges);
  GgufTokenizerData data;
  data.name = std::move(name);
  data.model = model;
  data.pre = pre;
  data.tokens = token_views;
  data.token_types = token_types;
  data.scores = scores;
  data.merges = merge_views;
  data.bos_id = bos_id;
  data.eos_id = eos_id;
  data.unk_id = unk_id;
  data.pad_id = pad_id;
  data.add_bos = add_bos;
  data.add_eos = add_eos;
  data.add_space_prefix = add_space_prefix;
  return Tokenizer(data);
}

void GgufVocabulary::add_to(GgufMetadata& metadata) const {
  const auto set_id = [&](std::string_view key, std::optional<std::int32_t> id) {
    if (id) metadata.set(key, static_cast<std::uint32_t>(*id));
  };
  metadata.set("tokenizer.ggml.model", model);
  if (!pre.empty()) metadata.set("tokenizer.ggml.pre", pre);
  metadata.set("tokenizer.ggml.tokens", tokens);
  metadata.set("tokenizer.ggml.token_type", token_types);
  if (!scores.empty()) metadata.set("tokenizer.ggml.scores", scores);
  if (!merges.empty()) metadata.set("tokenizer.ggml.merges", merges);
  set_id("tokenizer.ggml.bos_token_id", bos_id);
  set_id("tokenizer.ggml.eos_token_id", eos_id);
  set_id("tokenizer.ggml.unknown_token_id", unk_id);
  set_id("tokenizer.ggml.padding_token_id", pad_id);
  metadata.set("tokenizer.ggml.add_bos_token", add_bos);
  metadata.set("tokenizer.ggml.add_eos_token", add_eos);
  if (add_space_prefix) metadata.set("tokenizer.ggml.add_space_prefix", *add_space_prefix);
}

}  // namespace perpend
