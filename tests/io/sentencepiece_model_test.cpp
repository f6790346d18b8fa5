#include "perpend/io/tokenizer/sentencepiece_model.h"

#include <cstring>

#include <gtest/gtest.h>

#include "tests/io/hostile_bytes.h"

namespace perpend {
namespace {

// A field of a protocol buffer whose numbers all fit one byte.
std::string number(int field, int value) {
  return {static_cast<char>(field << 3), static_cast<char>(value)};
}
std::string bytes(int field, const std::string& content) {
  return std::string{static_cast<char>(field << 3 | 2), static_cast<char>(content.size())} +
         content;
}
std::string piece(const std::string& text, float score, int type) {
  std::string encoded(sizeof(score), '\0');
  std::memcpy(encoded.data(), &score, sizeof(score));
  return bytes(1, bytes(1, text) + static_cast<char>(2 << 3 | 5) + encoded + number(3, type));
}

const std::string kTrainer = bytes(2, number(3, 2));
const std::string kNormalizer = bytes(3, number(3, 0) + number(4, 0));
const std::string kModel = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) +
                           piece("a", -3, 1) + piece("b", -4, 1) + piece("ab", -1, 1) +
                           piece("aba", -2, 1) + kTrainer + kNormalizer;

SentencePieceModel read(const std::string& file) { return {bytes_of(file), "m"}; }

TEST(SentencePieceModel, PiecesAreJoinedByScore) {
  SentencePieceModel model = read(kModel);
  EXPECT_EQ(model.num_tokens(), 7);
  const EncodeOptions plain{.add_special_tokens = false, .parse_special = false};
  EXPECT_EQ(model.tokenizer(true, false).encode("abab", plain), (std::vector<std::int32_t>{5, 5}));
  EXPECT_EQ(model.tokenizer(true, true).encode("ab", {}), (std::vector<std::int32_t>{1, 5, 2}));
  model.set_token(7, "<new>", true);
  model.set_token(6, "<old>", true);
  const EncodeOptions special{.add_special_tokens = false, .parse_special = true};
  EXPECT_EQ(model.tokenizer(true, false).encode("<new><old>ab", special),
            (std::vector<std::int32_t>{7, 6, 5}));
  EXPECT_EQ(error_of([&] { model.set_token(9, "x", false); }),
            "m: added token 'x': expected an id from 0 to 8, found 9");
}

TEST(SentencePieceModel, WhatIsNotBuiltIsNamed) {
  const auto with = [](const std::string& trainer, const std::string& normalizer) {
    return error_of([&] { read(piece("a", 0, 1) + trainer + normalizer); });
  };
  EXPECT_EQ(with(kTrainer, kNormalizer), "");
  EXPECT_NE(with(bytes(2, number(3, 1)), kNormalizer).find("other than BPE"), std::string::npos);
  EXPECT_NE(with(kTrainer, bytes(3, bytes(2, "rules"))).find("normalizers"), std::string::npos);
  EXPECT_NE(with(kTrainer, bytes(3, number(4, 1))).find("remove blanks"), std::string::npos);
  EXPECT_NE(error_of([] { read(""); }).find("expected pieces"), std::string::npos);
  EXPECT_NE(error_of([] { read(piece("a", 0, 9)); }).find("expected 1 to 6"), std::string::npos);
}

TEST(SentencePieceModel, NoByteIsTrusted) {
  const auto use = [](std::span<const std::byte> file) {
    SentencePieceModel(file, "m").tokenizer(true, true).encode("abba", {});
  };
  for (std::size_t size = 0; size < kModel.size(); ++size) {
    const std::string part = kModel.substr(0, size);
    EXPECT_NE(error_of([&] { use(bytes_of(part)); }), "") << "cut after " << size;
  }
  expect_damages_survived(kModel, use);
}

}  // namespace
}  // namespace perpend
