#pragma once

#include <sstream>
#include <string>

namespace perpend {

// The arguments streamed one after another into one string; the building block of error texts.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace perpend
