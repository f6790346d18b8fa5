#include "perpend/mask/covers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

using testing::HasSubstr;

std::string error_of(const Mask& mask, std::int64_t q_len, std::int64_t kv_len,
                     std::int64_t q_offset) {
  try {
    check_covers(mask, q_len, kv_len, q_offset);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "fits";
}

TEST(Covers, WholeSequencesMustBeCoveredExactly) {
  for (const char* text : {"same(segments(4, 6))", "same(grid(2, 5).window(1, 1))",
                           "upto(grid(5, 2, 1).frame)", "k_in(doc, 0)"}) {
    const Mask mask = parse_mask(text).bind(parse_bindings("doc = segments(4, 6)"));
    EXPECT_EQ(error_of(mask, 10, 10, 0), "fits");
    EXPECT_THAT(error_of(mask, 9, 9, 0), HasSubstr("given for 10 positions, the sequence has 9"));
    EXPECT_THAT(error_of(mask, 11, 11, 0),
                HasSubstr("given for 10 positions, the sequence has 11"));
    // A chunk, a decode step, keys of another sequence.
    EXPECT_EQ(error_of(mask, 3, 8, 5), "fits");
    EXPECT_EQ(error_of(mask, 1, 10, 9), "fits");
    EXPECT_EQ(error_of(mask, 4, 10, 0), "fits");
    EXPECT_THAT(error_of(mask, 1, 11, 10), HasSubstr("must lie inside"));
    EXPECT_THAT(error_of(mask, 4, 11, 0), HasSubstr("must lie inside"));
  }
  EXPECT_EQ(error_of(parse_mask("causal & same(segments_at(0, 5))"), 100, 100, 0), "fits");
  EXPECT_EQ(error_of(parse_mask("same(doc)"), 3, 3, 0), "fits");  // BoundMask tells of names
  EXPECT_THAT(error_of(parse_mask("same(within(6, segments(4)))"), 9, 9, 0),
              HasSubstr("'segments(4)' is given for 4 positions, the sequence has 6"));
}

TEST(Covers, LabelsMustLieInTheirTable) {
  const Mask mask = parse_mask("table(block(4), 10, 11)");
  EXPECT_EQ(error_of(mask, 8, 8, 0), "fits");
  EXPECT_THAT(error_of(mask, 9, 9, 0), HasSubstr("in [0, 2), block(4) has 0 to 2"));
}

TEST(Covers, TilesMustCoverBothAxes) {
  TileMap::Tiles tiles{.tile_q = 4, .tile_k = 2, .num_columns = 4};
  tiles.row_begin = {0, 0, 0};
  const Mask mask = Mask::tiles("map").bind(Bindings().set("map", TileMap(tiles)));
  EXPECT_EQ(error_of(mask, 7, 7, 0), "fits");
  EXPECT_EQ(error_of(mask, 8, 8, 0), "fits");
  EXPECT_THAT(error_of(mask, 6, 6, 0), HasSubstr("the columns of tiles 'map'"));
  EXPECT_THAT(error_of(mask, 1, 9, 3), HasSubstr("the columns of tiles 'map'"));
  EXPECT_THAT(error_of(mask, 1, 8, 8), HasSubstr("the rows of tiles 'map'"));
}

TEST(Covers, GeneratedMasksFitTheirLength) {
  Random random(1);
  for (int i = num_trials(500); i > 0; --i) {
    const Mask mask = random_mask_of_length(random, 20, 60);
    EXPECT_EQ(error_of(mask, 60, 60, 0), "fits") << mask;
    EXPECT_EQ(error_of(mask, 5, 30, 25), "fits") << mask;
    EXPECT_EQ(error_of(random_mask(random, 20), 77, 77, 0), "fits");
  }
}

}  // namespace
}  // namespace perpend
