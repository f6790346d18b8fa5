#include "perpend/nn/device_choice.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

TEST(DeviceChoice, NamesDevices) {
  EXPECT_EQ(choose_device("cpu"), Device{});
  for (const char* text : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "CUDA"}) {
    EXPECT_THROW(choose_device(text), InvalidArgument) << text;
  }
  EXPECT_THROW(choose_device("cuda:99"), Unsupported);
}

}  // namespace
}  // namespace perpend
