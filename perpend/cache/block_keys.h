#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perpend/cache/block_visibility.h"
#include "perpend/core/sip_hash.h"

namespace perpend {

// Names what a block's rows are at the input of each layer by the tokens that they depend on:
//   key(0, b)     = hash(0, block size, b, tokens of b)
//   key(l + 1, b) = hash(l + 1, key(l, b), key(l, c) for each block c that b may see in layer l)
// so that equal keys mean equal rows, and an edit changes the keys of those blocks alone that see
// it through some chain of layers. (Of one model, one set of masks and rows cut at the same places:
// the caller's to keep apart.)
class BlockKeys {
 public:
  // Keys of two objects can be compared where their hashes began with the same key.
  BlockKeys(BlockVisibility& visibility, const SipHash& hash, std::span<const std::int32_t> tokens,
            std::int32_t num_blocks);

  // layer in [0, num_layers].
  const Digest& at(int layer, std::int32_t block) const {
    return keys_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(block)];
  }

 private:
  std::vector<std::vector<Digest>> keys_;  // [layer][block]
};

}  // namespace perpend

template <>
struct std::hash<perpend::Digest> {
  std::size_t operator()(const perpend::Digest& digest) const { return digest.low; }
};
