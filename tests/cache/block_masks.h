#pragma once

#include <string>
#include <utility>
#include <vector>

#include "perpend/core/concat.h"
#include "perpend/core/random.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Masks of the layers of a hybrid model, in blocks of `block` tokens: windows, sinks and strides,
// everything, and now and then something without blocks.
inline std::vector<Mask> random_layer_masks(Random& random, int num_layers, std::int64_t block) {
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.next_below(bound));
  };
  const std::vector<std::string> texts = {
      "causal",
      concat("longgen_sink(", block, ", ", below(2), ", ", 1 + below(3), ")"),
      concat("longgen_strided(", block, ", ", 1 + below(2), ", ", 2 + below(3), ", ", below(2),
             ")"),
      concat("causal & window(", 1 + below(20), ")"),
      concat("upto(block(", block, ")) & near(", block, ", 2)"),
  };
  std::vector<Mask> masks;
  while (static_cast<int>(masks.size()) < num_layers) {
    const Mask mask = parse_mask(texts[random.next_below(texts.size())]);
    for (std::int64_t i = 1 + below(3); i > 0; --i) masks.push_back(mask);
  }
  masks.resize(static_cast<std::size_t>(num_layers));
  return masks;
}

}  // namespace perpend
