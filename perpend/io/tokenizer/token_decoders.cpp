// Decoder stages that treat every token by itself.

#include <array>
#include <utility>

#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/token_stage.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// Turns runs of byte tokens into text. A run counts as a whole: one byte that fits nowhere makes
// every byte of it U+FFFD, so nothing is final before the run ends.
class ByteFallback : public TokenStage {
 public:
  using TokenStage::TokenStage;

  void finish() override {
    end_run();
    next().finish();
  }

 private:
  void token(std::string& text) override {
    if (const auto byte = byte_of_token(text)) {
      run_ += static_cast<char>(*byte);
      return;
    }
    end_run();
    emit(text);
  }
  void end_run() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      emit(run_);
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) emit(kReplacement);
    }
    run_.clear();
  }

  std::string run_;
};

class Replace : public TokenStage {
 public:
  Replace(DecoderStage& next, TextPattern pattern, std::string content)
      : TokenStage(next), pattern_(std::move(pattern)), content_(std::move(content)) {}

 private:
  void token(std::string& text) override {
    matches_.clear();
    pattern_(text, matches_);
    const std::string_view whole = text;
    std::size_t done = 0;
    for (const TextRange& match : matches_) {
      next().text(whole.substr(done, match.begin - done));
      next().text(content_);
      done = match.end;
    }
    emit(whole.substr(done));
  }

  TextPattern pattern_;
  std::string content_;
  std::vector<TextRange> matches_;
};

class Metaspace : public TokenStage {
 public:
  Metaspace(DecoderStage& next, std::string replacement, bool drop_first)
      : TokenStage(next), replacement_(std::move(replacement)), drop_(drop_first) {}

 private:
  void token(std::string& text) override {
    replace_all(text, replacement_, std::exchange(drop_, false) ? "" : " ");
    emit(text);
  }

  std::string replacement_;
  bool drop_;
};

class WordPiece : public TokenStage {
 public:
  WordPiece(DecoderStage& next, std::string prefix, bool cleanup)
      : TokenStage(next), prefix_(std::move(prefix)), cleanup_(cleanup) {}

 private:
  void token(std::string& text) override {
    if (!std::exchange(is_first_, false)) {
      if (text.starts_with(prefix_)) {
        text.erase(0, prefix_.size());
      } else {
        text.insert(0, 1, ' ');
      }
    }
    if (cleanup_) clean(text);
    emit(text);
  }

  // Undoes the spaces that BERT's pre-tokenizer puts around English punctuation.
  static void clean(std::string& text) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kEdits{
        {{" .", "."},
         {" ?", "?"},
         {" !", "!"},
         {" ,", ","},
         {" ' ", "'"},
         {" n't", "n't"},
         {" 'm", "'m"},
         {" do not", " don't"},
         {" 's", "'s"},
         {" 've", "'ve"},
         {" 're", "'re"}}};
    for (const auto& [from, to] : kEdits) replace_all(text, from, to);
  }

  std::string prefix_;
  bool cleanup_;
  bool is_first_ = true;
};

// The suffix that ends a word becomes a space, but at the end of the text nothing.
class Bpe : public TokenStage {
 public:
  Bpe(DecoderStage& next, std::string suffix) : TokenStage(next), suffix_(std::move(suffix)) {}

  void finish() override {
    if (has_last_) write(std::exchange(last_, {}), "");
    next().finish();
  }

 private:
  void token(std::string& text) override {
    if (std::exchange(has_last_, true)) write(std::move(last_), " ");
    last_ = std::move(text);
  }
  void write(std::string text, std::string_view replacement) {
    replace_all(text, suffix_, replacement);
    emit(text);
  }

  std::string suffix_;
  std::string last_;
  bool has_last_ = false;
};

}  // namespace

DecoderStep byte_fallback_decoder() {
  return [](DecoderStage& next) { return std::make_unique<ByteFallback>(next); };
}

DecoderStep replace_decoder(TextPattern pattern, std::string content) {
  return [pattern = std::move(pattern), content = std::move(content)](DecoderStage& next) {
    return std::make_unique<Replace>(next, pattern, content);
  };
}

DecoderStep metaspace_decoder(std::string replacement, bool drop_first) {
  return [replacement = std::move(replacement), drop_first](DecoderStage& next) {
    return std::make_unique<Metaspace>(next, replacement, drop_first);
  };
}

DecoderStep wordpiece_decoder(std::string prefix, bool cleanup) {
  return [prefix = std::move(prefix), cleanup](DecoderStage& next) {
    return std::make_unique<WordPiece>(next, prefix, cleanup);
  };
}

DecoderStep bpe_decoder(std::string suffix) {
  return [suffix = std::move(suffix)](DecoderStage& next) {
    return std::make_unique<Bpe>(next, suffix);
  };
}

}  // namespace perpend
