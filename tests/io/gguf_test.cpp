#include "perpend/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/byte_writer.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/text_file.h"
#include "tests/io/hostile_bytes.h"
#include "tests/io/read_everything.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kName = "small.gguf";

void read(std::span<const std::byte> bytes) { read_everything(GgufFile::parse(bytes, kName)); }

// A valid file with metadata of several types and two tensors; it ends with the last tensor's
// bytes.
std::string small_file() {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  metadata.set("llama.block_count", std::uint32_t{2});
  metadata.set("negative", std::int16_t{-5});
  metadata.set("scale", 0.5F);
  metadata.set("flag", true);
  metadata.set("tokens", std::vector<std::string>{"a", "", "bc"});
  metadata.set("scores", std::vector<float>{1, 2, 3});
  metadata.set("types", std::vector<std::int32_t>{1, -1});
  GgufWriter writer(
      folder.file("small.gguf"), metadata,
      {{"quantised", BlockFormat::kQ8_0, {3, 32}}, {"plain", BlockFormat::kF32, {8}}});
  writer.write("quantised", std::vector<std::byte>(102, std::byte{1}));
  writer.write("plain", std::vector<std::byte>(32, std::byte{2}));
  writer.finish();
  return read_text_file(folder.file("small.gguf"));
}

// Headers that no writer would make, field by field.
class RawGguf {
 public:
  RawGguf(std::uint64_t num_tensors, std::uint64_t num_values, std::uint32_t version = 3) {
    out_.text("GGUF");
    out_.number(version);
    out_.number(num_tensors);
    out_.number(num_values);
  }

  RawGguf& key(std::string_view name, GgufType type) {
    out_.counted_text(name);
    out_.number(static_cast<std::uint32_t>(type));
    return *this;
  }
  template <class T>
  RawGguf& number(T value) {
    out_.number(value);
    return *this;
  }
  RawGguf& array(GgufType type, std::uint64_t count) {
    return number(static_cast<std::uint32_t>(type)).number(count);
  }
  RawGguf& tensor(std::string_view name, const std::vector<std::uint64_t>& dims,
                  std::uint32_t type = 0, std::uint64_t offset = 0) {
    out_.counted_text(name);
    out_.number(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t size : dims) out_.number(size);
    out_.number(type);
    out_.number(offset);
    return *this;
  }
  RawGguf& zeros(std::size_t count) {
    out_.text(std::string(count, '\0'));
    return *this;
  }
  std::string error() const {
    return error_of([&] { read(bytes_of(out_.bytes())); });
  }

 private:
  ByteWriter out_;
};

constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;

TEST(Gguf, ReadsWhatWasWritten) {
  const std::string bytes = small_file();
  const GgufFile file = GgufFile::parse(bytes_of(bytes), kName);
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.require_string("general.architecture"), "llama");
  EXPECT_EQ(file.require_u64("llama.block_count"), 2U);
  EXPECT_EQ(file.get_f64("scale"), 0.5);
  EXPECT_EQ(file.get_bool("flag"), true);
  EXPECT_THAT(file.get_strings("tokens"), testing::ElementsAre("a", "", "bc"));
  EXPECT_THAT(file.get_floats("scores"), testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(file.get_ints("types"), testing::ElementsAre(1, -1));
  EXPECT_EQ(file.get_u64("absent"), std::nullopt);
  ASSERT_NE(file.tensor("quantised"), nullptr);
  EXPECT_THAT(file.tensor("quantised")->shape, testing::ElementsAre(3, 32));
  EXPECT_EQ(file.tensor("absent"), nullptr);
}

TEST(Gguf, NamesKeyAndTypesOfAMismatch) {
  const std::string bytes = small_file();
  const GgufFile file = GgufFile::parse(bytes_of(bytes), kName);
  EXPECT_EQ(error_of([&] { file.get_u64("scale"); }),
            "small.gguf: key 'scale': expected an unsigned integer, found a float");
  EXPECT_EQ(error_of([&] { file.get_u64("negative"); }),
            "small.gguf: key 'negative': expected an unsigned integer, found a negative number");
  EXPECT_EQ(error_of([&] { file.get_floats("types"); }),
            "small.gguf: key 'types': expected an array of f32, found an array of i32");
  EXPECT_EQ(error_of([&] { file.get_strings("types"); }),
            "small.gguf: key 'types': expected an array of string, found an array of i32");
  EXPECT_EQ(error_of([&] { file.require_u64("absent"); }), "small.gguf: key 'absent' is missing");
}

TEST(Gguf, RefusesEveryTruncation) { expect_truncations_refused(small_file(), kName, read); }

TEST(Gguf, SurvivesRandomDamage) { expect_damages_survived(small_file(), read); }

TEST(Gguf, RefusesOtherFilesAndVersions) {
  EXPECT_EQ(error_of([] { read(bytes_of(std::string(100, 'x'))); }),
            "small.gguf: magic: expected 'GGUF'");
  EXPECT_EQ(RawGguf(0, 0, 1).error(),
            "small.gguf: version: expected 2 or 3, little endian, found 1");
  EXPECT_THAT(RawGguf(0, 0, 0x03000000).error(), HasSubstr("little endian"));
  EXPECT_EQ(RawGguf(0, 0, 2).error(), "");
}

TEST(Gguf, RefusesHugeCounts) {
  EXPECT_THAT(RawGguf(kHuge, 0).error(), StartsWith("small.gguf: tensor name: expected 8 bytes"));
  EXPECT_THAT(RawGguf(0, kHuge).error(), StartsWith("small.gguf: metadata key: expected 8 bytes"));
  EXPECT_THAT(RawGguf(0, 1).number(kHuge).zeros(8).error(),
              StartsWith("small.gguf: metadata key: expected 9223372036854775808 bytes"));
  for (const GgufType type : {GgufType::kU8, GgufType::kF64, GgufType::kString, GgufType::kArray}) {
    EXPECT_THAT(RawGguf(0, 1).key("k", GgufType::kArray).array(type, kHuge).zeros(64).error(),
                StartsWith("small.gguf: key 'k': "));
  }
}

TEST(Gguf, RefusesBadValues) {
  EXPECT_THAT(RawGguf(0, 1).key("k", GgufType{13}).zeros(64).error(),
              HasSubstr("key 'k': expected a value type below 13, found 13"));
  EXPECT_THAT(RawGguf(0, 1).key("k", GgufType::kBool).number(std::uint8_t{2}).error(),
              HasSubstr("key 'k': expected a bool (0 or 1), found 2"));
  RawGguf twice(0, 2);
  twice.key("k", GgufType::kU8).zeros(1).key("k", GgufType::kU8).zeros(1);
  EXPECT_EQ(twice.error(), "small.gguf: key 'k': given twice");
  RawGguf deep(0, 1);
  deep.key("k", GgufType::kArray);
  for (int i = 0; i < 100000; ++i) deep.array(GgufType::kArray, 1);
  EXPECT_EQ(deep.error(), "small.gguf: key 'k': arrays are nested too deep");
}

TEST(Gguf, RefusesBadAlignment) {
  for (const std::uint32_t alignment : {0U, 3U, 48U, 1U << 21, 0xffffffffU}) {
    EXPECT_EQ(RawGguf(0, 1).key("general.alignment", GgufType::kU32).number(alignment).error(),
              concat("small.gguf: key 'general.alignment': expected a power of two up to 2^20, ",
                     "found ", alignment));
  }
  EXPECT_THAT(RawGguf(0, 1).key("general.alignment", GgufType::kF32).number(32.0F).error(),
              HasSubstr("key 'general.alignment': expected an unsigned integer, found a float"));
}

TEST(Gguf, RefusesBadShapes) {
  EXPECT_EQ(RawGguf(1, 0).tensor("t", {}).error(),
            "small.gguf: tensor 't': expected 1 to 4 dimensions, found 0");
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1, 1, 1, 1, 1}).error(), HasSubstr("found 5"));
  EXPECT_EQ(RawGguf(1, 0).tensor("t", {4, 0}).error(),
            "small.gguf: tensor 't': dimension 1 of 0 is out of range");
  // Products of 2^64 and 2^66 would wrap to small numbers.
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1ULL << 32, 1ULL << 32}).zeros(64).error(),
              HasSubstr("tensor 't': dimension 1 of 4294967296 is out of range"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {kHuge, 8}).zeros(64).error(),
              HasSubstr("tensor 't': dimension 0 of 9223372036854775808 is out of range"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {33}, 8).zeros(64).error(),
              HasSubstr("tensor 't': rows of 33 values are no multiple of the q8_0 block of 32"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {32}, 9).error(),
              HasSubstr("tensor 't': tensor type 9 is not built"));
}

TEST(Gguf, RefusesBadPlaces) {
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1}, 0, 33).zeros(200).error(),
              HasSubstr("tensor 't': offset 33 is no multiple of 32"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1}, 0, 1 << 20).zeros(200).error(),
              HasSubstr("tensor 't': its 4 bytes at offset 1048576 reach beyond the end"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1}, 0, kHuge).zeros(200).error(),
              HasSubstr("reach beyond the end"));
  EXPECT_THAT(RawGguf(1, 0).tensor("t", {1000}).zeros(200).error(),
              HasSubstr("tensor 't': its 4000 bytes at offset 0 reach beyond the end"));
  EXPECT_EQ(RawGguf(2, 0).tensor("t", {16}).tensor("u", {1}, 0, 32).zeros(200).error(),
            "small.gguf: tensor 'u': overlaps tensor 't'");
  EXPECT_EQ(RawGguf(2, 0).tensor("t", {1}).tensor("t", {1}, 0, 32).zeros(200).error(),
            "small.gguf: tensor 't': given twice");
}

TEST(Gguf, OpenNamesPathAndReason) {
  const TemporaryFolder folder;
  const auto open = [](const std::string& path) { return error_of([&] { GgufFile::open(path); }); };
  EXPECT_EQ(open(folder.file("absent")), folder.file("absent") + ": No such file or directory");
  EXPECT_EQ(open(folder.path()), folder.path() + ": not a regular file");
  EXPECT_EQ(open(folder.add("empty", "")), folder.file("empty") + ": the file is empty");
}

}  // namespace
}  // namespace perpend
