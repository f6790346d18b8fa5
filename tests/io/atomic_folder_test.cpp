#include "perpend/io/atomic_folder.h"

#include <fstream>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

void write(const std::string& folder, const std::string& name, const std::string& text) {
  std::ofstream(fs::path(folder) / name) << text;
}

TEST(AtomicFolder, AppearsAtCommit) {
  const TemporaryFolder place;
  for (const char* name : {"model", "with slash/"}) {
    const std::string path = place.file(name);
    AtomicFolder folder(path);
    write(folder.staging_path(), "a", "text");
    EXPECT_FALSE(fs::exists(path)) << name;
    folder.commit([](std::string_view) { return false; });
    EXPECT_EQ(read_text_file((fs::path(path) / "a").string()), "text");
    EXPECT_FALSE(fs::exists(folder.staging_path())) << name;
  }
}

TEST(AtomicFolder, LeavesNothingBehindWithoutCommit) {
  const TemporaryFolder place;
  {
    const AtomicFolder folder(place.file("model"));
    write(folder.staging_path(), "a", "text");
    EXPECT_FALSE(place.is_empty());
  }
  EXPECT_TRUE(place.is_empty());
}

TEST(AtomicFolder, ReplacesFilesOfItsNamesAndStaleOnes) {
  const TemporaryFolder place;
  const std::string path = place.file("model");
  fs::create_directories(fs::path(path) / "stale folder");
  for (const char* name : {"a", "stale", "other"}) write(path, name, "old");
  AtomicFolder folder(path);
  write(folder.staging_path(), "a", "new");
  write(folder.staging_path(), "stale too, but written", "new");
  EXPECT_EQ(read_text_file(path + "/a"), "old");
  folder.commit([](std::string_view name) { return name.starts_with("stale"); });
  EXPECT_EQ(read_text_file(path + "/a"), "new");
  EXPECT_EQ(read_text_file(path + "/other"), "old");
  EXPECT_EQ(read_text_file(path + "/stale too, but written"), "new");
  EXPECT_FALSE(fs::exists(path + "/stale"));
  EXPECT_TRUE(fs::exists(path + "/stale folder"));
}

TEST(AtomicFolder, NamesThePlaceThatCanNotHoldIt) {
  const TemporaryFolder place;
  try {
    const AtomicFolder folder(place.file("absent/model"));
    FAIL() << "expected an error";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("absent/model: No such file"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace perpend
