#pragma once

#include <string_view>
#include <vector>

#include "perpend/io/tokenizer/post_processor.h"

namespace perpend {

struct TokenizerPipeline;
struct EncodeOptions;

// Takes `text`, valid UTF-8, through the pipeline. Offsets are filled if `with_offsets`: characters
// of `text`.
std::vector<EncodedToken> encode_text(const TokenizerPipeline& pipeline, std::string_view text,
                                      EncodeOptions options, bool with_offsets);

}  // namespace perpend
