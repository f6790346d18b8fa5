#pragma once

#include <cstdint>
#include <optional>

#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// The tokens that a tokenizer puts before and behind a text.
struct SpecialFrame {
  std::optional<std::int32_t> first;
  std::optional<std::int32_t> last;
};

// Throws Unsupported for a tokenizer that puts more than one token on a side.
SpecialFrame special_frame(const Tokenizer& tokenizer);

}  // namespace perpend
