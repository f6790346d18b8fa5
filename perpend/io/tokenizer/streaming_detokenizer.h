#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

class DecoderRun;

// Text of a token stream, handed out as soon as it is final: what push and finish return, joined,
// is decode() of all ids. A character whose bytes lie in several tokens comes with the last of
// them, or, where tokens stand for single bytes (<0x0A>), with the token after those. Keeps a
// reference to `tokenizer`.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special = true);
  ~StreamingDetokenizer();

  // The complete characters that `id` adds; often empty within a character of several tokens.
  std::string push(std::int32_t id);
  // What is held back, with U+FFFD for bytes that never became a character. Starts anew.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecoderRun> run_;  // from the first token on
};

}  // namespace perpend
