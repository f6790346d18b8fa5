#pragma once

#include <array>
#include <cstdint>

#include "perpend/core/error.h"

namespace perpend {

// The call of the instantiation for a type and a head_dim, which is padded to the next that is
// built.
template <class Launch>
using Launcher = void (*)(const Launch& launch);

template <class Launch>
struct ForDim {
  std::int64_t head_dim;
  Launcher<Launch> launcher;
};

template <class Launch, std::size_t kCount>
Launcher<Launch> at_least(const std::array<ForDim<Launch>, kCount>& built, std::int64_t head_dim) {
  for (const ForDim<Launch>& one : built) {
    if (head_dim <= one.head_dim) return one.launcher;
  }
  bug("attention: a head_dim that supports() refuses");
}

}  // namespace perpend
