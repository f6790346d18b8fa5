#pragma once

#include <cstddef>
#include <string_view>

#include "perpend/mask/mask.h"

namespace perpend {

// parse_mask() for a part of a longer text that begins at `first_column`, so that errors name
// columns of the whole.
Mask parse_mask_at(std::string_view text, std::size_t first_column);

}  // namespace perpend
