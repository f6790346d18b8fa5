#pragma once

#include <string_view>
#include <vector>

#include "perpend/mask/mask.h"

namespace perpend {

// Reads which mask each layer of a model uses:
//   "0-9,20-29: causal & (sink(64) | window(448)); rest: causal"
// Parts are separated by ';'; a part is selectors, ':' and a mask. Selectors, separated by ',', are
// layer numbers, inclusive ranges, `all`, or `rest` (layers no other part names). A mask alone is
// for all layers. Returns [num_layers]. Throws InvalidArgument with the column (from 1) for
// anything else, for a layer named twice and for layers left without a mask.
std::vector<Mask> parse_layer_masks(std::string_view text, int num_layers);

}  // namespace perpend
