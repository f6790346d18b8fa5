#pragma once

#include <string>

#include "perpend/io/tokenizer/gguf_tokenizer_data.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// The text of a tokenizer.json that does what `tokenizer`, made of `data`, does. Throws Unsupported
// for vocabularies of other models than gpt2 and llama.
std::string write_tokenizer_json(const GgufTokenizerData& data, const Tokenizer& tokenizer);

}  // namespace perpend
