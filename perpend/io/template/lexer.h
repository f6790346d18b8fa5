#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace perpend::jinja {

struct Token {
  enum class Kind {
    kText,         // text outside tags
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 0;
};

// Cuts a template into tokens with trim_blocks and lstrip_blocks on, as Transformers reads chat
// templates: a newline after a block tag and blanks before one on its line vanish, `-` takes all
// blanks,
// `+` none; one newline at the end of the source is dropped. Throws IoError naming template and
// line.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace perpend::jinja
