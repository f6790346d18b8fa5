#include "perpend/io/tokenizer/tokenizer.h"

#include <utility>

#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/encoder.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

Tokenizer::Tokenizer(std::unique_ptr<TokenizerPipeline> pipeline)
    : pipeline_(std::move(pipeline)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const auto tokens = encode_text(*pipeline_, valid_utf8(text), options, false);
  std::vector<std::int32_t> ids;
  ids.reserve(tokens.size());
  for (const EncodedToken& token : tokens) ids.push_back(token.id);
  return ids;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, EncodeOptions options) const {
  Encoding encoding;
  for (const EncodedToken& token : encode_text(*pipeline_, valid_utf8(text), options, true)) {
    encoding.ids.push_back(token.id);
    encoding.offsets.push_back({token.begin, token.end});
  }
  return encoding;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  DecoderRun run(pipeline_->decoder);
  bool any = false;
  for (const std::int32_t id : ids) {
    if (!is_decoded(id, skip_special)) continue;
    run.push(decoder_input(id));
    any = true;
  }
  if (any) run.finish();
  return run.take();
}

std::string_view Tokenizer::id_to_token(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  if (id < 0 || index >= pipeline_->entries.size()) return {};
  return pipeline_->entries[index].text;
}

std::string_view Tokenizer::decoder_input(std::int32_t id) const {
  const auto found = pipeline_->normalized_texts.find(id);
  return found == pipeline_->normalized_texts.end() ? id_to_token(id) : found->second;
}

bool Tokenizer::is_decoded(std::int32_t id, bool skip_special) const {
  return !id_to_token(id).empty() && !(skip_special && is_special(id));
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  if (!is_decoded(id, false)) return "";
  const std::string_view text = decoder_input(id);
  std::optional<std::string> bytes;
  if (pipeline_->byte_spelling == ByteSpelling::kAlphabet) bytes = bytes_of_entry(text);
  if (pipeline_->byte_spelling == ByteSpelling::kTokens) {
    if (const auto byte = byte_of_token(text)) bytes = std::string(1, static_cast<char>(*byte));
  }
  if (bytes) return *bytes;
  constexpr std::string_view kOther = "x";
  DecoderRun run(pipeline_->decoder);
  run.push(kOther);
  run.push(text);
  run.finish();
  return run.take().substr(kOther.size());
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return pipeline_->ids.find(token);
}

bool Tokenizer::is_special(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  return id >= 0 && index < pipeline_->entries.size() && pipeline_->entries[index].special;
}

std::size_t Tokenizer::vocab_size() const { return pipeline_->entries.size(); }
std::optional<std::int32_t> Tokenizer::bos_id() const { return pipeline_->bos_id; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return pipeline_->eos_id; }

void Tokenizer::set_special_ids(std::optional<std::int32_t> bos, std::optional<std::int32_t> eos) {
  pipeline_->bos_id = bos;
  pipeline_->eos_id = eos;
}

}  // namespace perpend
