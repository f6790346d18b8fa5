#include "perpend/io/tokenizer/encoder.h"

#include <algorithm>

#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"
#include "perpend/io/tokenizer/utf8.h"
#include "perpend/io/tokenizer/word_cache.h"

namespace perpend {
namespace {

// The character that each byte of `text` belongs to, and their number.
std::vector<std::size_t> character_indices(std::string_view text) {
  std::vector<std::size_t> indices;
  indices.reserve(text.size() + 1);
  std::size_t count = 0;
  for (const char byte : text) {
    if (!is_utf8_continuation(byte)) ++count;
    indices.push_back(count - 1);
  }
  indices.push_back(count);
  return indices;
}

class Encoder {
 public:
  Encoder(const TokenizerPipeline& pipeline, std::string_view text, bool parse_special,
          bool with_offsets)
      : pipeline_(pipeline),
        text_(text),
        parse_special_(parse_special),
        with_offsets_(with_offsets),
        cache_(*pipeline.model, text.size()) {}

  std::vector<EncodedToken> encode() {
    std::size_t done = 0;
    for (const auto& match : pipeline_.raw_tokens.find_all(text_, parse_special_)) {
      encode_plain({done, std::max(done, match.range.begin)});
      add_token(match.id, match.range, text_.substr(match.range.begin, match.range.size()));
      done = match.range.end;
    }
    encode_plain({done, text_.size()});
    if (with_offsets_) count_characters();
    return std::move(tokens_);
  }

 private:
  void encode_plain(TextRange range) {
    if (range.size() == 0) return;
    AlignedText aligned(text_, range, with_offsets_ || pipeline_.needs_origins);
    for (const Normalizer& normalizer : pipeline_.normalizers) normalizer(aligned);
    const auto matches = pipeline_.normalized_tokens.find_all(aligned.text(), parse_special_);
    if (matches.empty()) {
      encode_normalized(std::move(aligned));
      return;
    }
    std::size_t done = 0;
    for (const auto& match : matches) {
      if (done < match.range.begin) encode_normalized(aligned.slice({done, match.range.begin}));
      add_token(match.id, aligned.origin(match.range),
                aligned.text().substr(match.range.begin, match.range.size()));
      done = match.range.end;
    }
    encode_normalized(aligned.slice({done, aligned.text().size()}));
  }

  void encode_normalized(AlignedText aligned) {
    if (aligned.empty()) return;
    SplitText split(std::move(aligned));
    for (const PreTokenizer& pre_tokenizer : pipeline_.pre_tokenizers) pre_tokenizer(split);
    for (std::size_t i = 0; i < split.words.size(); ++i) {
      add_pieces(split.text, split.words[i], cache_.tokenize(split.word(i)));
    }
  }

  void add_pieces(const AlignedText& text, TextRange word, std::span<const Piece> pieces) {
    std::size_t begin = word.begin;
    for (const Piece& piece : pieces) {
      if (!with_offsets_) {
        tokens_.push_back({.id = piece.id});
        continue;
      }
      // Prefixes and suffixes of a model can make its tokens longer than the word.
      const std::size_t end = std::min(begin + piece.size, word.end);
      add_token(piece.id, begin < end ? text.origin({begin, end}) : TextRange{},
                pipeline_.entries[static_cast<std::size_t>(piece.id)].text);
      begin = end;
    }
  }

  void add_token(std::int32_t id, TextRange origin, std::string_view text) {
    EncodedToken token{.id = id, .begin = origin.begin, .end = origin.end};
    if (with_offsets_ && !pipeline_.post_processor.trimmers.empty()) count_blanks(text, token);
    tokens_.push_back(token);
  }

  void count_characters() {
    const std::vector<std::size_t> index = character_indices(text_);
    for (EncodedToken& token : tokens_) {
      token.begin = index[token.begin];
      token.end = index[token.end];
    }
  }

  const TokenizerPipeline& pipeline_;
  std::string_view text_;
  bool parse_special_;
  bool with_offsets_;
  WordCache cache_;
  std::vector<EncodedToken> tokens_;
};

}  // namespace

std::vector<EncodedToken> encode_text(const TokenizerPipeline& pipeline, std::string_view text,
                                      EncodeOptions options, bool with_offsets) {
  Encoder encoder(pipeline, text, options.parse_special, with_offsets);
  return pipeline.post_processor.process(encoder.encode(), options.add_special_tokens);
}

}  // namespace perpend
