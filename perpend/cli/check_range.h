#pragma once

#include <cstdint>
#include <string_view>

#include "perpend/core/error.h"

namespace perpend {

// Throws InvalidArgument, naming command and flag, unless `value` is in [least, most].
inline void check_range(std::string_view command, std::string_view flag, std::int64_t value,
                        std::int64_t least, std::int64_t most) {
  check(value >= least && value <= most,
        concat(command, ": ", flag, " must be in [", least, ", ", most, "] (", value, ")"));
}

}  // namespace perpend
