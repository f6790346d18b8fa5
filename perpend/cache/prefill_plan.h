#pragma once

#include <cstdint>
#include <vector>

#include "perpend/cache/block_visibility.h"
#include "perpend/core/function_ref.h"
#include "perpend/core/range.h"

namespace perpend {

// What a prompt's blocks find in a cache.
struct StoredBlocks {
  // Whether keys and values of a block in a layer are stored.
  FunctionRef<bool(int layer, std::int32_t block)> has_keys;
  // Whether its rows at the input of a checkpoint (see BlockVisibility) are.
  FunctionRef<bool(int layer, std::int32_t block)> has_rows;
};

// The layers that each of the first `num_blocks` blocks must run, [num_blocks], given that all
// later positions run all layers. In the last of its layers a block only makes its keys and values.
// It need not run
// - the layers above the last one whose keys some later row sees,
// - anything, when all keys of it that are seen are stored,
// - the layers below a checkpoint whose rows are stored, when all its keys below that are seen are.
// Block by block from the last to the first: what a block runs decides what it sees of those
// before.
std::vector<Range> plan_prefill(BlockVisibility& visibility, std::int32_t num_blocks,
                                const StoredBlocks& stored);

}  // namespace perpend
