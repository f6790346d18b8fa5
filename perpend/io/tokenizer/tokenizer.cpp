#include "perpend/io/tokenizer/tokenizer.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <utf8proc.h>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

std::string nfc(const std::string& text) {
  utf8proc_uint8_t* normalized = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &normalized,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) throw InvalidArgument(concat("tokenizer: NFC: ", utf8proc_errmsg(size)));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normalized, &std::free);
  return {reinterpret_cast<const char*>(normalized), static_cast<std::size_t>(size)};
}

// The added token that `text` begins with, or none.
std::optional<std::int32_t> added_token_at(const TokenizerPipeline& pipeline, std::string_view text,
                                           bool parse_special) {
  for (const std::int32_t id : pipeline.added) {
    const TokenizerEntry& entry = pipeline.entries[static_cast<std::size_t>(id)];
    if ((parse_special || !entry.special) && text.starts_with(entry.text)) return id;
  }
  return std::nullopt;
}

// Text without added tokens: words, bytes, merges.
void encode_plain(const TokenizerPipeline& pipeline, const std::string& text,
                  std::vector<std::int32_t>& ids) {
  std::vector<std::int32_t> word_ids;
  for_each_word(pipeline.pre_tokenizer, text, [&](std::string_view word) {
    word_ids.clear();
    for (const char byte : word) {
      const std::int32_t id = pipeline.byte_ids[static_cast<unsigned char>(byte)];
      if (id != TokenizerPipeline::kNoToken) word_ids.push_back(id);
    }
    pipeline.merger.merge(word_ids);
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  });
}

bool is_added_start(const TokenizerPipeline& pipeline, char first) {
  return std::any_of(pipeline.added.begin(), pipeline.added.end(), [&](std::int32_t id) {
    return pipeline.entries[static_cast<std::size_t>(id)].text.front() == first;
  });
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<TokenizerPipeline> pipeline)
    : pipeline_(std::move(pipeline)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const TokenizerPipeline& pipeline = *pipeline_;
  const std::string valid = valid_utf8(text);
  std::vector<std::int32_t> ids;
  if (options.add_special_tokens && pipeline.add_bos && pipeline.bos_id) {
    ids.push_back(*pipeline.bos_id);
  }
  std::array<bool, 256> starts{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    starts[byte] = is_added_start(pipeline, static_cast<char>(byte));
  }
  const auto flush = [&](std::size_t begin, std::size_t end) {
    if (begin == end) return;
    const std::string part = valid.substr(begin, end - begin);
    encode_plain(pipeline, pipeline.normalize_nfc ? nfc(part) : part, ids);
  };
  std::size_t begin = 0;
  for (std::size_t at = 0; at < valid.size();) {
    const auto id =
        starts[static_cast<unsigned char>(valid[at])]
            ? added_token_at(pipeline, std::string_view(valid).substr(at), options.parse_special)
            : std::nullopt;
    if (!id) {
      ++at;
      continue;
    }
    flush(begin, at);
    ids.push_back(*id);
    at += pipeline.entries[static_cast<std::size_t>(*id)].text.size();
    begin = at;
  }
  flush(begin, valid.size());
  if (options.add_special_tokens && pipeline.add_eos && pipeline.eos_id) {
    ids.push_back(*pipeline.eos_id);
  }
  return ids;
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  return id >= 0 && index < pipeline_->entries.size() ? pipeline_->entries[index].bytes
                                                      : std::string();
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return valid_utf8(bytes);
}

std::string_view Tokenizer::id_to_token(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  if (id < 0 || index >= pipeline_->entries.size()) return {};
  return pipeline_->entries[index].text;
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const auto found = pipeline_->ids.find(token);
  if (found == pipeline_->ids.end()) return std::nullopt;
  return found->second;
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
