#pragma once

#include <span>
#include <string>

#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/rank/ranker.h"

namespace perpend {

// The tokens of a document that carried most of its score, each with its share of it.
std::string heaviest_tokens(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens,
                            std::span<const float> weights);

// The document for a terminal with colours: each token on the colour of what it carried, the
// heaviest of `heaviest` being darkest.
std::string shaded_text(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens,
                        std::span<const float> weights, float heaviest);

}  // namespace perpend
