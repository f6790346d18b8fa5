#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/tokenizer/text_pattern.h"

namespace perpend {

// A step from token texts to readable text. Fed bit by bit, so that text can be handed on as soon
// as it is final; what reaches the end of the chain does not depend on the bits. All text is valid
// UTF-8.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  // More of the current token's text.
  virtual void text(std::string_view part) = 0;
  virtual void end_token() = 0;
  // No more tokens.
  virtual void finish() = 0;
};

// Makes a stage that feeds `next`, which outlives it.
using DecoderStep = std::function<std::unique_ptr<DecoderStage>(DecoderStage& next)>;
using Decoder = std::vector<DecoderStep>;

DecoderStep byte_level_decoder();
DecoderStep byte_fallback_decoder();
DecoderStep fuse_decoder();
DecoderStep join_decoder(std::string separator);
DecoderStep replace_decoder(TextPattern pattern, std::string content);
// Up to `num_first` and `num_last` times `content`, one character, off the ends of a token.
DecoderStep strip_decoder(std::string content, std::size_t num_first, std::size_t num_last);
DecoderStep metaspace_decoder(std::string replacement, bool drop_first);
DecoderStep wordpiece_decoder(std::string prefix, bool cleanup);
DecoderStep bpe_decoder(std::string suffix);

// One decoding: a chain of stages.
class DecoderRun {
 public:
  explicit DecoderRun(const Decoder& decoder);
  ~DecoderRun();

  void push(std::string_view token_text);
  void finish();
  // The text that has become final since the last call.
  std::string take();

 private:
  class Sink;
  std::unique_ptr<Sink> sink_;
  std::vector<std::unique_ptr<DecoderStage>> stages_;  // the last is fed first
};

}  // namespace perpend
