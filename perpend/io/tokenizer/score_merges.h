#pragma once

#include <cstdint>
#include <vector>

#include "perpend/io/tokenizer/gguf_tokenizer_data.h"
#include "perpend/io/tokenizer/vocabulary.h"

namespace perpend {

// Tokens `left` and `right` become `merged`; lower ranks first.
struct ScoreMerge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
  std::int32_t rank = 0;
};

// The merges of a SentencePiece vocabulary (tokenizer.ggml.model "llama"), which has no list of
// them: any two tokens that join to a third may merge, those first whose result has the highest
// score. By falling score, then by left and right id, as published tokenizer.json files list them.
// `vocabulary` holds the tokens that plain text can become.
// Throws IoError for scores that are missing or NaN and for a token of more than 1024 bytes.
std::vector<ScoreMerge> merges_by_score(const GgufTokenizerData& data,
                                        const Vocabulary& vocabulary);

}  // namespace perpend
