#pragma once

#include "perpend/core/random.h"
#include "perpend/mask/mask.h"

namespace perpend {

// A random expression over primitives whose constants lie around `scale`.
inline Mask random_mask(Random& random, std::int64_t scale, int depth = 3) {
  const auto number = [&] {
    return static_cast<std::int64_t>(random.next_below(static_cast<std::uint64_t>(scale) + 2));
  };
  switch (depth == 0 ? random.next_below(6) : random.next_below(10)) {
    case 0:
      return Mask::all();
    case 1:
      return Mask::none();
    case 2:
      return Mask::window(number());
    case 3:
      return Mask::window(number(), number());
    case 4:
      return Mask::sink(number());
    case 5:
      return Mask::causal();
    case 6:
      return ~random_mask(random, scale, depth - 1);
    case 7:
      return random_mask(random, scale, depth - 1) | random_mask(random, scale, depth - 1);
    default:
      return random_mask(random, scale, depth - 1) & random_mask(random, scale, depth - 1);
  }
}

}  // namespace perpend
