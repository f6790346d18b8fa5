#pragma once

#include <span>
#include <string_view>

#include "perpend/io/tokenizer/word_scanner.h"

namespace perpend {

// What a name under tokenizer.ggml.pre stands for: how a byte-level vocabulary cuts words.
struct GgufPreTokenizer {
  std::string_view name;
  WordScanner scanner = WordScanner::kGpt2;
  bool digits_alone = false;  // before the scanner sees the text
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

// All that are built.
std::span<const GgufPreTokenizer> gguf_pre_tokenizers();

// By any of its names, "" among them; null for one that is not built.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

}  // namespace perpend
