#include "perpend/io/tokenizer/special_frame.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend {

SpecialFrame special_frame(const Tokenizer& tokenizer) {
  constexpr std::string_view kText = "a";
  const auto inner = tokenizer.encode(kText, {.add_special_tokens = false});
  const auto framed = tokenizer.encode(kText, {.add_special_tokens = true});
  const auto begin = std::search(framed.begin(), framed.end(), inner.begin(), inner.end());
  const auto end = begin + static_cast<std::ptrdiff_t>(inner.size());
  if (begin - framed.begin() > 1 || framed.end() - end > 1) {
    throw Unsupported("tokenizer: more than one token before or behind a text is not built");
  }
  SpecialFrame frame;
  if (begin != framed.begin()) frame.first = framed.front();
  if (end != framed.end()) frame.last = framed.back();
  return frame;
}

}  // namespace perpend
