#include "perpend/schedule/picture.h"

#include <gtest/gtest.h>

namespace perpend {
namespace {

TEST(Picture, SmallMasksShowEveryPair) {
  const Mask mask = Mask::causal();
  const Schedule schedule = compile(mask, {{{8, 8, 0}}, 1, 1}, plain_tiling(4, 4));
  const Image image = draw_schedule(schedule, mask, 64);
  EXPECT_EQ(image.width, 64);
  EXPECT_EQ(image.height, 64);
  const Image::Color white = {255, 255, 255};
  EXPECT_EQ(image.at(60, 4), white);             // a dead tile
  EXPECT_NE(image.at(4, 60), white);             // a full tile
  EXPECT_NE(image.at(12, 12), image.at(28, 4));  // live and dead pair of one partial tile
}

TEST(Picture, LargeMasksStaySmallPictures) {
  const Mask mask = parse_mask("causal & window(4096)");
  const Schedule schedule = compile(mask, {{{100000, 100000, 0}}, 1, 1}, plain_tiling(64, 64));
  const Image image = draw_schedule(schedule, mask, 300);
  EXPECT_EQ(image.width, 300);
  EXPECT_EQ(image.height, 300);
}

TEST(Picture, TextShowsTheTriangle) {
  EXPECT_EQ(draw_text(Mask::causal(), {4, 4, 0}, 80), "█▄  \n███▄\n");
}

}  // namespace
}  // namespace perpend
