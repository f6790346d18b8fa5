#include "perpend/mask/layer_masks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

using testing::HasSubstr;

TEST(LayerMasks, SelectorsChooseLayers) {
  const Mask hybrid = parse_mask("causal & (sink(64) | window(448))");
  const auto masks =
      parse_layer_masks("0-2, 5: causal & (sink(64) | window(448)); rest: causal", 7);
  ASSERT_EQ(masks.size(), 7U);
  for (std::size_t layer = 0; layer < 7; ++layer) {
    EXPECT_EQ(masks[layer], layer <= 2 || layer == 5 ? hybrid : Mask::causal()) << layer;
  }
  EXPECT_EQ(parse_layer_masks("window(3)", 2), std::vector(2, Mask::window(3)));
  EXPECT_EQ(parse_layer_masks("all: causal", 2), std::vector(2, Mask::causal()));
}

TEST(LayerMasks, SeparatorsInBracketsBelongToTheMask) {
  const auto masks = parse_layer_masks(
      "0,2: heads(0-3: causal & window(2); rest: (all)); rest: heads(0: none; rest: causal)", 3);
  EXPECT_EQ(masks[0], parse_mask("heads(0-3: causal & window(2); rest: all)"));
  EXPECT_EQ(masks[1], parse_mask("heads(0: none; rest: causal)"));
  EXPECT_EQ(masks[2], masks[0]);
  EXPECT_EQ(parse_layer_masks("heads(0: none; rest: causal)", 2), std::vector(2, masks[1]));
}

std::string error_of(std::string_view text) {
  try {
    parse_layer_masks(text, 4);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(LayerMasks, ErrorsNameTheColumn) {
  EXPECT_THAT(error_of("0: causal"), HasSubstr("layer 1 has no mask"));
  EXPECT_THAT(error_of("0-9: causal"), HasSubstr("column 3: layer 9 does not exist"));
  EXPECT_THAT(error_of("0-2: causal; 1: all; rest: all"),
              HasSubstr("column 14: layer 1 is given twice"));
  EXPECT_THAT(error_of("rest: cusal"), HasSubstr("column 7: unknown word 'cusal'"));
  EXPECT_THAT(error_of("x: causal"), HasSubstr("column 1: expected a layer number"));
  EXPECT_THAT(error_of("2-1: causal; rest: all"), HasSubstr("backwards"));
  EXPECT_THAT(error_of("rest: all; rest: all"), HasSubstr("rest is given twice"));
  EXPECT_THAT(error_of("all: heads(0: causl; rest: all)"), HasSubstr("column 15: unknown word"));
  EXPECT_THAT(error_of("all: heads(0: causal; 0: all)"), HasSubstr("column 6: head 0 is given"));
  EXPECT_THAT(error_of("0, rest, x: causal"), HasSubstr("column 10: expected a layer number"));
  EXPECT_THAT(error_of("causal;"), HasSubstr("column 8"));
  EXPECT_THAT(error_of(""), HasSubstr("column 1"));
}

}  // namespace
}  // namespace perpend
