#pragma once

#include <string>
#include <string_view>

#include "perpend/io/tokenizer/text_pattern.h"

namespace perpend {

// A regular expression as tokenizer.json writes it (Oniguruma's Ruby syntax), run by PCRE2 with the
// character properties of Unicode. Differs from Oniguruma in rare constructs only: {n,m}+ is
// possessive, and inside brackets \W is PCRE2's. Matching one text costs bounded time.
// Throws IoError "<name>: ..." for a pattern that does not compile; the result throws
// InvalidArgument for a text on which the pattern takes too long.
TextPattern regex_pattern(std::string_view pattern, const std::string& name);

}  // namespace perpend
