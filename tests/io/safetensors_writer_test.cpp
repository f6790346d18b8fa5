#include "perpend/io/safetensors_writer.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/checkpoint.h"
#include "perpend/io/safetensors_folder_writer.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const std::vector<TensorSpec> kTensors = {{"a", BlockFormat::kF32, {3}},
                                          {"empty", BlockFormat::kF16, {0}},
                                          {"b", BlockFormat::kBF16, {2}},
                                          {"c", BlockFormat::kF16, {5}}};

template <class Writer>
void write_all(Writer& writer) {
  writer.write("a", std::vector<std::byte>(12, std::byte{1}));
  writer.write("b", std::vector<std::byte>(4, std::byte{2}));
  writer.write("c", std::vector<std::byte>(10, std::byte{3}));
}

TEST(SafetensorsWriter, RefusesWhatTheFormatCanNotHold) {
  const TemporaryFolder folder;
  const auto error = [&](const TensorSpec& tensor) {
    return error_of([&] { SafetensorsWriter(folder.file("out"), {}, {tensor}); });
  };
  EXPECT_THAT(error({"t", BlockFormat::kQ8_0, {32}}), HasSubstr("not q8_0"));
  EXPECT_THAT(error({"__metadata__", BlockFormat::kF32, {1}}), HasSubstr("can not be called"));
  EXPECT_THAT(error({"\xff", BlockFormat::kF32, {1}}), HasSubstr("can not be written as JSON"));
  EXPECT_THAT(error({"t", BlockFormat::kF32, {-1}}), HasSubstr("-1 is out of range"));
  EXPECT_TRUE(folder.is_empty());
}

TEST(SafetensorsWriter, RefusesBytesOutOfTurn) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder.file("out"), {}, kTensors);
  const std::vector<std::byte> bytes(12);
  EXPECT_THAT(error_of([&] { writer.write("b", bytes); }), HasSubstr("out of turn: expected a"));
  writer.write("a", bytes);
  EXPECT_THAT(error_of([&] { writer.write("b", bytes); }), HasSubstr("has 4 bytes left"));
  EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("tensor 'b' has 0 of its 4 bytes"));
}

TEST(SafetensorsWriter, LeavesNothingWithoutFinish) {
  const TemporaryFolder folder;
  {
    SafetensorsWriter file(folder.file("out"), {}, kTensors);
    write_all(file);
    SafetensorsFolderWriter shards(folder.path(), {}, kTensors, 12);
    write_all(shards);
  }
  EXPECT_TRUE(folder.is_empty());
}

TEST(SafetensorsFolderWriter, FewerShardsReplaceMore) {
  const TemporaryFolder folder;
  folder.add("config.json", "{}");
  for (const std::uint64_t max_shard_bytes : {12, 1000}) {
    SafetensorsFolderWriter writer(folder.path(), {{"format", "pt"}}, kTensors, max_shard_bytes);
    write_all(writer);
    writer.finish();
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    ASSERT_EQ(checkpoint.tensors().size(), 4U);
    EXPECT_EQ(checkpoint.tensor("c")->bytes[9], std::byte{3});
  }
  EXPECT_TRUE(std::filesystem::exists(folder.file("model-00002-of-00003.safetensors")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("model.safetensors.index.json")));
}

TEST(SafetensorsFolderWriter, RefusesUnknownAndRepeatedTensors) {
  const TemporaryFolder folder;
  SafetensorsFolderWriter writer(folder.path(), {}, kTensors, 12);
  EXPECT_THAT(error_of([&] { writer.write("x", {}); }), HasSubstr("no tensor 'x' was announced"));
  EXPECT_THAT(error_of([&] {
                SafetensorsFolderWriter(folder.path(), {}, {kTensors[0], kTensors[0]}, 1);
              }),
              HasSubstr("tensor 'a' is given twice"));
}

}  // namespace
}  // namespace perpend
