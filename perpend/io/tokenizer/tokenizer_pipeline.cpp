#include "perpend/io/tokenizer/tokenizer_pipeline.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

void TokenizerPipeline::add_entry(std::int32_t id, std::string text, bool special,
                                  bool added_token) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= entries.size()) entries.resize(index + 1);
  TokenizerEntry& entry = entries[index];
  if (!entry.text.empty() && entry.text != text) {
    throw IoError(concat(name, ": id ", id, " is given twice"));
  }
  const auto [known, is_new] = ids.try_emplace(text, id);
  if (!is_new && known->second != id) {
    throw IoError(concat(name, ": token '", valid_utf8(text.substr(0, 100)), "' has two ids"));
  }
  // Added tokens are spelled as they are; all others in the byte alphabet.
  entry.bytes = added_token ? text : bytes_of_entry(text).value_or(text);
  entry.text = std::move(text);
  entry.special = special;
  entry.added = added_token;
}

void TokenizerPipeline::finish() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(character_of_byte(static_cast<unsigned char>(byte)), text);
    const auto found = ids.find(text);
    byte_ids[byte] = found == ids.end() ? kNoToken : found->second;
  }
  for (std::size_t id = 0; id < entries.size(); ++id) {
    if (entries[id].added && !entries[id].text.empty())
      added.push_back(static_cast<std::int32_t>(id));
  }
  std::stable_sort(added.begin(), added.end(), [&](std::int32_t a, std::int32_t b) {
    return entries[static_cast<std::size_t>(a)].text.size() >
           entries[static_cast<std::size_t>(b)].text.size();
  });
}

std::int32_t TokenizerPipeline::require_id(std::string_view text) const {
  const auto found = ids.find(text);
  if (found == ids.end()) {
    throw IoError(
        concat(name, ": the vocabulary has no token '", valid_utf8(text.substr(0, 100)), "'"));
  }
  return found->second;
}

void TokenizerPipeline::add_merge(std::string_view left, std::string_view right) {
  merger.add(require_id(left), require_id(right), require_id(concat(left, right)));
}

}  // namespace perpend
