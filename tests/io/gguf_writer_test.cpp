#include "perpend/io/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;

class GgufWriterTest : public testing::Test {
 protected:
  // Text of the InvalidArgument that writing a file of `tensors` throws from the start.
  std::string error_of(std::vector<TensorSpec> tensors) {
    return error_of([&] { GgufWriter(path_, {}, std::move(tensors)); });
  }
  template <class Action>
  std::string error_of(Action action) {
    try {
      action();
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("out.gguf");
};

TEST_F(GgufWriterTest, RefusesWhatTheFormatCanNotHold) {
  EXPECT_THAT(error_of({{"", BlockFormat::kF32, {1}}}), HasSubstr("1 to 63 bytes"));
  EXPECT_THAT(error_of({{std::string(64, 'n'), BlockFormat::kF32, {1}}}), HasSubstr("63 bytes"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {}}}), HasSubstr("found 0"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {1, 1, 1, 1, 1}}}), HasSubstr("found 5"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {3, 0}}}), HasSubstr("at least 1, found 0"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {-3}}}), HasSubstr("-3 is out of range"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {1LL << 40, 1LL << 40}}}),
              HasSubstr("out of range"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kQ4_K, {2, 32}}}),
              HasSubstr("rows of 32 values are no multiple of the q4_k block of 256"));
  EXPECT_THAT(error_of({{"t", BlockFormat::kF32, {1}}, {"t", BlockFormat::kF32, {1}}}),
              HasSubstr("tensor 't' is given twice"));
  EXPECT_TRUE(folder_.is_empty());
}

TEST_F(GgufWriterTest, RefusesBytesOutOfTurn) {
  const std::vector<std::byte> bytes(8);
  GgufWriter writer(path_, {}, {{"a", BlockFormat::kF32, {3}}, {"b", BlockFormat::kF32, {2}}});
  EXPECT_THAT(error_of([&] { writer.write("b", bytes); }), HasSubstr("out of turn: expected a"));
  writer.write("a", bytes);
  EXPECT_THAT(error_of([&] { writer.write("a", bytes); }),
              HasSubstr("tensor 'a' has 4 bytes left to write, 8 were given"));
  EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("tensor 'a' has 8 of its 12 bytes"));
  writer.write("a", std::span(bytes).first(4));
  writer.write("b", bytes);
  EXPECT_THAT(error_of([&] { writer.write("b", bytes); }), HasSubstr("expected no more"));
  writer.finish();
  EXPECT_EQ(GgufFile::open(path_).tensors().size(), 2U);
}

TEST_F(GgufWriterTest, LeavesNothingWithoutFinish) {
  { GgufWriter writer(path_, {}, {{"a", BlockFormat::kF32, {3}}}); }
  EXPECT_TRUE(folder_.is_empty());
}

TEST_F(GgufWriterTest, NamesPathAndReasonOfAFailure) {
  EXPECT_THROW(GgufWriter(folder_.file("absent/out.gguf"), {}, {}), IoError);
}

TEST_F(GgufWriterTest, WritesFilesWithoutAnything) {
  GgufWriter(path_, {}, {}).finish();
  const GgufFile file = GgufFile::open(path_);
  EXPECT_TRUE(file.metadata().empty());
  EXPECT_TRUE(file.tensors().empty());
}

TEST_F(GgufWriterTest, SetReplacesInPlaceAndRemoveForgets) {
  GgufMetadata metadata;
  metadata.set("a", std::uint32_t{1});
  metadata.set("b", "text");
  metadata.set("a", std::vector<std::string>{"x"});
  ASSERT_EQ(metadata.entries().size(), 2U);
  EXPECT_EQ(metadata.entries()[0].key, "a");
  EXPECT_EQ(metadata.entries()[0].type, GgufType::kArray);
  metadata.remove("a");
  metadata.remove("absent");
  ASSERT_EQ(metadata.entries().size(), 1U);
  EXPECT_EQ(metadata.entries()[0].key, "b");
}

TEST_F(GgufWriterTest, KeepsEmptyArraysAndTexts) {
  GgufMetadata metadata;
  metadata.set("text", "");
  metadata.set("array", std::vector<std::string>());
  GgufWriter(path_, metadata, {}).finish();
  const GgufFile file = GgufFile::open(path_);
  EXPECT_EQ(file.require_string("text"), "");
  EXPECT_TRUE(file.get_strings("array").empty());
}

TEST_F(GgufWriterTest, ChecksAlignment) {
  GgufMetadata metadata;
  EXPECT_EQ(metadata.alignment(), 32U);
  EXPECT_THAT(error_of([&] { metadata.set("general.alignment", std::uint32_t{24}); }),
              HasSubstr("general.alignment must be a u32 power of two up to 1048576 (u32 24)"));
  EXPECT_THAT(error_of([&] { metadata.set("general.alignment", std::uint64_t{32}); }),
              HasSubstr("(u64 "));
  metadata.set("general.alignment", std::uint32_t{64});
  EXPECT_EQ(metadata.alignment(), 64U);
  metadata.remove("general.alignment");
  EXPECT_EQ(metadata.alignment(), 32U);
  EXPECT_THAT(error_of([&] { metadata.set("", true); }), HasSubstr("1 to 65535 bytes"));
}

}  // namespace
}  // namespace perpend
