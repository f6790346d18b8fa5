#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "perpend/core/error.h"

namespace perpend {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `use`; an Error is an answer, anything else it throws is a finding.
template <class Use>
int refuse_or_use(Use use) {
  try {
    use();
  } catch (const Error&) {
    return 0;
  }
  return 0;
}

}  // namespace perpend
