#include "perpend/io/animated_png.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

// That programs read it is tested with Pillow (tests/cli/diffusion_command_test.py).
TEST(AnimatedPng, StoresOfAFrameWhatChanged) {
  const TemporaryFolder folder;
  const std::string path = folder.file("animation.png");
  Image frame(40, 30);
  AnimatedPng animation(path, 3);
  animation.add(frame, 100);
  frame.set(7, 9, {255, 0, 0});
  frame.set(11, 10, {0, 0, 255});
  animation.add(frame, 65535);
  animation.add(frame, 0);
  animation.finish();
  const std::string bytes = read_text_file(path);
  const auto control = [&](std::size_t number) {
    std::size_t at = 0;
    for (std::size_t i = 0; i <= number; ++i) at = bytes.find("fcTL", at) + 4;
    return bytes.substr(at, 26);
  };
  using namespace std::string_literals;
  // Number, width, height, x, y, delay over 1000, nothing disposed of, drawn over the rest.
  EXPECT_EQ(control(0), "\0\0\0\0\0\0\0\x28\0\0\0\x1e\0\0\0\0\0\0\0\0\0\x64\x03\xe8\0\1"s);
  EXPECT_EQ(control(1), "\0\0\0\1\0\0\0\5\0\0\0\2\0\0\0\7\0\0\0\x9\xff\xff\x03\xe8\0\1"s);
  EXPECT_EQ(control(2), "\0\0\0\3\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\x03\xe8\0\1"s);
}

TEST(AnimatedPng, RefusesWhatIsNoAnimation) {
  const TemporaryFolder folder;
  const std::string path = folder.file("animation.png");
  EXPECT_THROW(AnimatedPng(path, 0), InvalidArgument);
  AnimatedPng animation(path, 2);
  EXPECT_THROW(animation.add(Image(4, 4), -1), InvalidArgument);
  EXPECT_THROW(animation.add(Image(4, 4), 65536), InvalidArgument);
  animation.add(Image(4, 4), 1);
  EXPECT_THROW(animation.add(Image(4, 5), 1), InvalidArgument);
  EXPECT_THROW(animation.finish(), std::logic_error);
  animation.add(Image(4, 4), 1);
  EXPECT_THROW(animation.add(Image(4, 4), 1), std::logic_error);
}

}  // namespace
}  // namespace perpend
