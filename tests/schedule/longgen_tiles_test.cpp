// The tiles that kernels run for LongGen's masks (arXiv:2410.01485), against its closed forms.

#include <gtest/gtest.h>

#include "perpend/schedule/cost.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

constexpr std::int64_t kBlock = 64;

ScheduleCost cost_at(const char* mask, std::int64_t length) {
  const AttentionShape shape{{{length, length, 0}}, 1, 1};
  return cost_of(compile(parse_mask(mask), shape, plain_tiling(kBlock, kBlock)));
}

std::int64_t tiles_of(const ScheduleCost& cost) { return cost.full_tiles + cost.partial_tiles; }

// c blocks kept of n: each row has all blocks until there are more than c, then c.
std::int64_t sink_tiles(std::int64_t n, std::int64_t c) {
  const std::int64_t kept = std::min(n, c);
  return kept * (kept + 1) / 2 + (n - kept) * kept;
}

// Pairs of as many tiles, one of them on the diagonal of each row.
std::int64_t pairs_of(std::int64_t tiles, std::int64_t n) {
  return (tiles - n) * kBlock * kBlock + n * kBlock * (kBlock + 1) / 2;
}

struct Row {
  std::int64_t length, dense, sink, strided, strided_64;
};

TEST(LongGenTiles, AreThoseOfTheTable) {
  // N, dense, AS(1, 31), BS(16, 128), BS(16, 64): live tiles of 64 x 64.
  for (const Row& row :
       {Row{4096, 2080, 1552, 952, 952}, Row{8192, 8256, 3600, 2040, 2088},
        Row{16384, 32896, 7696, 4328, 4552}, Row{32768, 131328, 15888, 9288, 10248},
        Row{65536, 524800, 32272, 20744, 24712}, Row{131072, 2098176, 65040, 49800, 65928}}) {
    const std::int64_t n = row.length / kBlock;
    EXPECT_EQ(row.sink, sink_tiles(n, 32));
    EXPECT_EQ(row.dense, sink_tiles(n, n));
    const auto expect_tiles = [&](const char* mask, std::int64_t tiles) {
      const ScheduleCost cost = cost_at(mask, row.length);
      EXPECT_EQ(tiles_of(cost), tiles) << mask << " " << row.length;
      EXPECT_EQ(cost.live_pairs, pairs_of(tiles, n)) << mask << " " << row.length;
      // Only the diagonal needs bits.
      EXPECT_EQ(cost.partial_tiles, n) << mask << " " << row.length;
    };
    expect_tiles("longgen_sink(64, 1, 31)", row.sink);
    expect_tiles("longgen_strided(64, 16, 128)", row.strided);
    expect_tiles("longgen_strided(64, 16, 64)", row.strided_64);
    if (row.length <= 32768) expect_tiles("causal", row.dense);
  }
}

TEST(LongGenTiles, PairsAtTheLongestContext) {
  EXPECT_EQ(pairs_of(sink_tiles(2048, 32), 2048), 262275072);
  EXPECT_EQ(cost_at("longgen_sink(64, 1, 31)", 131072).live_pairs, 262275072);
  EXPECT_EQ(cost_at("longgen_strided(64, 16, 128)", 131072).live_pairs, 199852032);
}

}  // namespace
}  // namespace perpend
