#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perpend/rank/rank_prompt.h"

namespace perpend {

// Documents of a JSONL text: each line that is not blank an object with the keys `id` (a text or an
// integer) and `text`, and perhaps `title`; others are passed over. Throws IoError "<name>: line
// <n>: ..." for a line that is no such object and for an id that was given before.
std::vector<RankDocument> read_document_lines(std::string_view text, const std::string& name);

// The files of a folder in the order of their names, which are their ids; hidden ones and folders
// are passed over. Throws IoError with path and reason.
std::vector<RankDocument> read_document_folder(const std::string& path);

}  // namespace perpend
