#include "perpend/cache/block_keys.h"

namespace perpend {

BlockKeys::BlockKeys(BlockVisibility& visibility, const SipHash& hash,
                     std::span<const std::int32_t> tokens, std::int32_t num_blocks)
    : keys_(static_cast<std::size_t>(visibility.num_layers() + 1),
            std::vector<Digest>(static_cast<std::size_t>(num_blocks))) {
  const auto block_size = static_cast<std::size_t>(visibility.block_size());
  for (std::int32_t block = 0; block < num_blocks; ++block) {
    SipHash key = hash;
    key.add(0);
    key.add(block_size);
    key.add(static_cast<std::uint64_t>(block));
    const std::size_t first = static_cast<std::size_t>(block) * block_size;
    for (const std::int32_t token : tokens.subspan(first, block_size)) {
      key.add(static_cast<std::uint64_t>(token));
    }
    keys_[0][static_cast<std::size_t>(block)] = key.finish();
  }
  for (int layer = 0; layer < visibility.num_layers(); ++layer) {
    for (std::int32_t block = 0; block < num_blocks; ++block) {
      SipHash key = hash;
      key.add(static_cast<std::uint64_t>(layer) + 1);
      key.add(at(layer, block));
      for (const std::int32_t other : visibility.seen(layer, block)) key.add(at(layer, other));
      keys_[static_cast<std::size_t>(layer) + 1][static_cast<std::size_t>(block)] = key.finish();
    }
  }
}

}  // namespace perpend
