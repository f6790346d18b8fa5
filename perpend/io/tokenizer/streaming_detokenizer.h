#pragma once

#include <cstdint>
#include <string>

#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// Text of a token stream, handed out as soon as it is final: what push and finish return, joined,
// is decode() of all ids. A character whose bytes lie in several tokens comes with the last of
// them. Keeps a reference to `tokenizer`.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The complete characters that `id` adds; often empty within a character of several tokens.
  std::string push(std::int32_t id);
  // What is held back, with U+FFFD for bytes that never became a character. Starts anew.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string held_;  // the beginning of a character
};

}  // namespace perpend
