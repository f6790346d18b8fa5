#include "perpend/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/byte_writer.h"
#include "tests/io/hostile_bytes.h"
#include "tests/io/read_everything.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;

constexpr const char* kName = "small.safetensors";

void read(std::span<const std::byte> bytes) {
  read_everything(SafetensorsFile::parse(bytes, kName));
}

std::string file_of(std::string_view header, std::size_t num_bytes) {
  ByteWriter out;
  out.counted_text(header);
  out.text(std::string(num_bytes, '\1'));
  return out.take();
}

std::string error_in(std::string_view header, std::size_t num_bytes = 0) {
  const std::string file = file_of(header, num_bytes);
  return error_of([&] { read(bytes_of(file)); });
}

// Of one tensor 't' whose entry is as given.
std::string error_of_entry(std::string_view entry, std::size_t num_bytes = 0) {
  const std::string error = error_in(concat(R"({"t":)", entry, "}"), num_bytes);
  const std::string start = concat(kName, ": tensor 't': ");
  EXPECT_EQ(error.substr(0, start.size()), start);
  return error.substr(std::min(start.size(), error.size()));
}

std::string small_file() {
  return file_of(R"({"__metadata__":{"format":"pt"},)"
                 R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                 R"("empty":{"dtype":"F16","shape":[0,3],"data_offsets":[24,24]},)"
                 R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},)"
                 R"("ids":{"dtype":"I64","shape":[1],"data_offsets":[26,34]},)"
                 R"("small":{"dtype":"I8","shape":[3,1],"data_offsets":[34,37]}})",
                 37);
}

TEST(Safetensors, ReadsAValidFile) {
  const std::string bytes = small_file();
  const SafetensorsFile file = SafetensorsFile::parse(bytes_of(bytes), kName);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_THAT(file.other_tensors(), testing::ElementsAre("ids", "small"));
  ASSERT_NE(file.tensor("a"), nullptr);
  EXPECT_THAT(file.tensor("a")->shape, testing::ElementsAre(2, 3));
  EXPECT_EQ(file.tensor("a")->bytes.size(), 24U);
  EXPECT_TRUE(file.tensor("empty")->bytes.empty());
  EXPECT_EQ(file.tensor("b")->format, BlockFormat::kBF16);
  EXPECT_EQ(file.tensor("ids"), nullptr);
  EXPECT_EQ(file.int8_tensor("ids"), nullptr);
  ASSERT_NE(file.int8_tensor("small"), nullptr);
  EXPECT_THAT(file.int8_tensor("small")->shape, testing::ElementsAre(3, 1));
  EXPECT_EQ(file.int8_tensor("small")->bytes.size(), 3U);
}

TEST(Safetensors, RefusesEveryTruncation) { expect_truncations_refused(small_file(), kName, read); }

TEST(Safetensors, SurvivesRandomDamage) { expect_damages_survived(small_file(), read); }

TEST(Safetensors, RefusesBadHeaderLengths) {
  ByteWriter huge;
  huge.number(~std::uint64_t{0});
  EXPECT_EQ(error_of([&] { read(bytes_of(huge.bytes())); }),
            "small.safetensors: header length: expected at most 100000000, found "
            "18446744073709551615");
  ByteWriter long_header;
  long_header.number(std::uint64_t{1000});
  EXPECT_THAT(error_of([&] { read(bytes_of(long_header.bytes())); }),
              HasSubstr("header: expected 1000 bytes at offset 8"));
}

TEST(Safetensors, RefusesHeadersThatAreNoObjectOfTensors) {
  EXPECT_THAT(error_in(""), HasSubstr("header: not valid JSON"));
  EXPECT_THAT(error_in("{\"a\":"), HasSubstr("header: not valid JSON"));
  EXPECT_THAT(error_in("[]"), HasSubstr("header: expected a JSON object, found array"));
  EXPECT_THAT(error_in("{\"\xff\":1}"), HasSubstr("header: not valid JSON"));
  EXPECT_THAT(error_in(R"({"t":1,"t":2})"), HasSubstr("header: JSON key 't' is given twice"));
  EXPECT_THAT(error_in(std::string(100000, '[')), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_in(R"({"__metadata__":[]})"), HasSubstr("__metadata__: expected an object"));
  EXPECT_THAT(error_in(R"({"__metadata__":{"a":1}})"), HasSubstr("__metadata__: expected strings"));
}

TEST(Safetensors, RefusesBadEntries) {
  constexpr std::string_view kKeys = "expected an object of dtype, shape and data_offsets";
  EXPECT_EQ(error_of_entry("1"), kKeys);
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1]})"), kKeys);
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1})"), kKeys);
  EXPECT_EQ(error_of_entry(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})"),
            "dtype: expected a string");
  EXPECT_EQ(error_of_entry(R"({"dtype":"Q9","shape":[1],"data_offsets":[0,4]})"),
            "unknown dtype 'Q9'");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})"),
            "shape: expected an array");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"),
            "expected a whole number, found -1");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})"),
            "expected a whole number, found 1.5");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"),
            "data_offsets: expected two numbers");
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  constexpr std::string_view kTooMany = "the shape has too many elements";
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[4294967296,4294967296],)"
                           R"("data_offsets":[0,0]})"),
            kTooMany);
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[9223372036854775807,2],)"
                           R"("data_offsets":[0,4]})"),
            kTooMany);
  // Zero elements, however large the other lengths.
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[0,18446744073709551615],)"
                           R"("data_offsets":[0,0]})"),
            kTooMany);
}

TEST(Safetensors, RefusesBadPlaces) {
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
            "data_offsets span 0 to 4, the shape needs 8 bytes");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4),
            "data_offsets span 4 to 0, the shape needs 4 bytes");
  EXPECT_EQ(error_of_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8),
            "expected to begin at offset 0, found 4");
  EXPECT_EQ(error_in(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                     R"("u":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                     6),
            "small.safetensors: tensor 'u': expected to begin at offset 4, found 2");
  EXPECT_EQ(error_in(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3),
            "small.safetensors: data: tensors take 4 bytes, the file holds 3");
  EXPECT_EQ(error_in(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5),
            "small.safetensors: data: tensors take 4 bytes, the file holds 5");
}

}  // namespace
}  // namespace perpend
