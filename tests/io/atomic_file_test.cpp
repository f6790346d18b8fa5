// Files that appear whole or not at all.

#include "perpend/io/atomic_file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

TEST(AtomicFile, IsThereWhenItIsCommitted) {
  const TemporaryFolder folder;
  const std::string path = folder.add("file", "before");
  {
    AtomicFile file(path);
    file.write("never");
  }
  EXPECT_EQ(read_text_file(path), "before");
  AtomicFile file(path);
  file.write("after");
  EXPECT_EQ(read_text_file(path), "before");
  file.commit();
  EXPECT_EQ(read_text_file(path), "after");
  fs::remove(path);
  EXPECT_TRUE(folder.is_empty()) << "something is left behind";
}

TEST(AtomicFile, OfALinkReplacesWhatItNames) {
  const TemporaryFolder folder;
  const std::string path = folder.add("file", "before");
  fs::create_symlink("file", folder.file("link"));
  AtomicFile file(folder.file("link"));
  file.write("after");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(folder.file("link")));
  EXPECT_EQ(read_text_file(path), "after");
}

// Where we may, a rename would put a file in place of the device.
TEST(AtomicFile, WritesToDevicesAsTheyAre) {
  AtomicFile nothing("/dev/null");
  nothing.write("text");
  nothing.commit();
  EXPECT_EQ(fs::status("/dev/null").type(), fs::file_type::character);
  AtomicFile full("/dev/full");
  full.write("text");
  EXPECT_THAT([&] { full.commit(); }, testing::ThrowsMessage<IoError>(
                                          testing::HasSubstr("/dev/full: could not be written")));
  EXPECT_EQ(fs::status("/dev/full").type(), fs::file_type::character);
}

TEST(AtomicFile, SaysWhyItCanNotBe) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { AtomicFile(folder.path()); },
              testing::ThrowsMessage<IoError>(testing::HasSubstr("Is a directory")));
  EXPECT_THAT([&] { AtomicFile(folder.file("no/file")); },
              testing::ThrowsMessage<IoError>(testing::HasSubstr("No such file")));
}

}  // namespace
}  // namespace perpend
