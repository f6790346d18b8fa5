#include "perpend/io/tokenizer/tokenizer_pipeline.h"

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

void TokenizerPipeline::add_entry(std::int32_t id, std::string_view text, bool special) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= entries.size()) entries.resize(index + 1);
  TokenizerEntry& entry = entries[index];
  if (!entry.text.empty() && entry.text != text) {
    throw IoError(concat(name, ": id ", id, " is given twice"));
  }
  if (!ids.add(text, id) && ids.find(text) != id) {
    throw IoError(concat(name, ": token '", valid_utf8(text.substr(0, 100)), "' has two ids"));
  }
  entry.text = text;
  entry.special = special;
}

void TokenizerPipeline::add_added_token(const AddedToken& token) {
  if (!token.normalized) {
    raw_tokens.add(token, token.content);
    return;
  }
  const std::string pattern = normalized(token.content);
  if (pattern.empty()) return;
  normalized_tokens.add(token, pattern);
  if (pattern != token.content) normalized_texts[token.id] = pattern;
}

std::int32_t TokenizerPipeline::require_id(std::string_view text) const {
  if (const auto id = ids.find(text)) return *id;
  throw IoError(
      concat(name, ": the vocabulary has no token '", valid_utf8(text.substr(0, 100)), "'"));
}

std::string TokenizerPipeline::normalized(std::string_view text) const {
  AlignedText aligned(text, {0, text.size()}, false);
  for (const Normalizer& normalizer : normalizers) normalizer(aligned);
  return std::string(aligned.text());
}

}  // namespace perpend
