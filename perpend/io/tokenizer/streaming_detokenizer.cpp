#include "perpend/io/tokenizer/streaming_detokenizer.h"

#include <utility>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

std::string StreamingDetokenizer::push(std::int32_t id) {
  if (skip_special_ && tokenizer_.is_special(id)) return "";
  held_ += tokenizer_.token_bytes(id);
  std::string out;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Character character = read_utf8(rest);
    if (character.truncated) break;
    out += character.valid ? rest.substr(0, character.size) : kReplacement;
    rest.remove_prefix(character.size);
  }
  held_ = std::string(rest);
  return out;
}

std::string StreamingDetokenizer::finish() { return valid_utf8(std::exchange(held_, {})); }

}  // namespace perpend
