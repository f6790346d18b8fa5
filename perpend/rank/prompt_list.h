#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/rank/rank_prompt.h"

namespace perpend {

// A query with the documents that are to be ranked and those that answer it.
struct PromptLine {
  std::string query;
  std::vector<std::size_t> documents;  // into the list of all documents
  std::vector<std::size_t> answers;    // into `documents`
};

// Lines of a JSONL text: each line that is not blank an object with the keys `query`, `documents`
// (ids) and `answer_ids` (some of them, perhaps none); others are passed over. Throws IoError
// "<name>: line <n>: ..." for a line that is no such object and for an id that `documents` lacks.
std::vector<PromptLine> read_prompt_lines(std::string_view text, const std::string& name,
                                          std::span<const RankDocument> documents);

}  // namespace perpend
