#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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
  std::string advance(bool flush);

  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<std::int32_t> window_;  // ids that the next text may still depend on
  std::size_t settled_ = 0;           // ids at the window's start whose text has been handed out
  std::string emitted_;               // text of the window that has been handed out
};

}  // namespace perpend
