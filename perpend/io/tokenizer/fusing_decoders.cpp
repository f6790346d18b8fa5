// Decoder stages that join tokens, and the one that may follow them without waiting for the end.

#include <utility>

#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/token_stage.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

class Fuse : public DecoderStage {
 public:
  Fuse(DecoderStage& next, std::string separator) : next_(next), separator_(std::move(separator)) {}

  void text(std::string_view part) override {
    if (std::exchange(between_tokens_, false)) next_.text(separator_);
    next_.text(part);
  }
  void end_token() override { between_tokens_ = true; }
  void finish() override {
    next_.end_token();
    next_.finish();
  }

 private:
  DecoderStage& next_;
  std::string separator_;
  bool between_tokens_ = false;
};

// Joins the bytes of all tokens; a character that lies in several of them waits for the last.
class ByteLevel : public TokenStage {
 public:
  using TokenStage::TokenStage;

  void finish() override {
    next().text(valid_utf8(std::exchange(held_, {})));
    next().end_token();
    next().finish();
  }

 private:
  void token(std::string& text) override {
    held_ += bytes_of_entry(text).value_or(text);
    std::string_view rest = held_;
    std::string out;
    while (!rest.empty()) {
      const Utf8Character character = read_utf8(rest);
      if (character.truncated) break;
      out += character.valid ? rest.substr(0, character.size) : kReplacement;
      rest.remove_prefix(character.size);
    }
    held_ = std::string(rest);
    next().text(out);
  }

  std::string held_;
};

struct StripOptions {
  std::string content;
  std::size_t num_first;
  std::size_t num_last;
};

class Strip : public DecoderStage {
 public:
  Strip(DecoderStage& next, StripOptions options) : next_(next), options_(std::move(options)) {}

  void text(std::string_view part) override {
    held_ += part;
    std::string_view rest = held_;
    while (num_stripped_ < options_.num_first && rest.starts_with(options_.content)) {
      rest.remove_prefix(options_.content.size());
      ++num_stripped_;
    }
    if (!rest.empty()) num_stripped_ = options_.num_first;
    const std::size_t kept = without_last(rest);
    next_.text(rest.substr(0, kept));
    held_ = std::string(rest.substr(kept));
  }
  void end_token() override {
    held_.clear();
    num_stripped_ = 0;
    next_.end_token();
  }
  void finish() override { next_.finish(); }

 private:
  // What stays of `text` if the token ends here.
  std::size_t without_last(std::string_view text) const {
    for (std::size_t i = 0; i < options_.num_last && text.ends_with(options_.content); ++i) {
      text.remove_suffix(options_.content.size());
    }
    return text.size();
  }

  DecoderStage& next_;
  StripOptions options_;
  std::size_t num_stripped_ = 0;
  std::string held_;
};

}  // namespace

DecoderStep fuse_decoder() { return join_decoder(""); }

DecoderStep join_decoder(std::string separator) {
  return [separator = std::move(separator)](DecoderStage& next) {
    return std::make_unique<Fuse>(next, separator);
  };
}

DecoderStep byte_level_decoder() {
  return [](DecoderStage& next) { return std::make_unique<ByteLevel>(next); };
}

DecoderStep strip_decoder(std::string content, std::size_t num_first, std::size_t num_last) {
  return [options = StripOptions{std::move(content), num_first, num_last}](DecoderStage& next) {
    return std::make_unique<Strip>(next, options);
  };
}

}  // namespace perpend
