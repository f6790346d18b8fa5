#pragma once

#include <string>
#include <string_view>

#include "perpend/io/tokenizer/decoder.h"

namespace perpend {

// A decoder stage that looks at whole tokens.
class TokenStage : public DecoderStage {
 public:
  explicit TokenStage(DecoderStage& next) : next_(next) {}

  void text(std::string_view part) final { token_ += part; }
  void end_token() final {
    token(token_);
    token_.clear();
  }
  void finish() override { next_.finish(); }

 protected:
  virtual void token(std::string& text) = 0;

  void emit(std::string_view text) {
    next_.text(text);
    next_.end_token();
  }
  DecoderStage& next() { return next_; }

 private:
  DecoderStage& next_;
  std::string token_;
};

}  // namespace perpend
