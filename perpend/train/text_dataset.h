#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/train/dataset.h"

namespace perpend {

// Reads JSONL text as examples. A line holds {"text": "..."}, all of which is learnt, or
// {"prompt": "...", "completion": "..."}, of which the completion is. A text begins as the
// tokenizer begins one and ends with `end_token`, which is learnt too. Special tokens that are
// written out in a line become those tokens. In place of a text there may be a list of token ids;
// such a completion may bring its `end_token`. Empty lines are skipped. Throws IoError
// "<path>:<line>: ..." for anything else.
std::vector<TrainingSequence> read_text_examples(const std::string& path,
                                                 const Tokenizer& tokenizer,
                                                 std::optional<std::int32_t> end_token);

}  // namespace perpend
