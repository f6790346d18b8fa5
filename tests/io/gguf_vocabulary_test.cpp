#include "perpend/io/tokenizer/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/tokenizer/gguf_tokenizer_fields.h"
#include "perpend/io/tokenizer/tokenizer_agreement.h"
#include "perpend/io/tokenizer/tokenizer_json_writer.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Optional;

json added(int id, const char* content, bool special) {
  return {{"id", id}, {"content", content}, {"special", special}};
}

// GPT-2's way of cutting words; id 6 is used by no token.
json byte_level() {
  return {{"added_tokens", {added(0, "<|end|>", true), added(7, "<tool>", false)}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab",
             {{"<|end|>", 0}, {"a", 1}, {"b", 2}, {"Ġ", 3}, {"ab", 4}, {"Ġab", 5}, {"<tool>", 7}}},
            {"merges", {"a b", "Ġ ab"}}}}};
}

json sentence_piece() {
  return {{"added_tokens", {added(0, "<unk>", true), added(1, "<s>", true)}},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "▁"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"byte_fallback", true},
            {"fuse_unk", true},
            {"vocab",
             {{"<unk>", 0},
              {"<s>", 1},
              {"<0x63>", 2},
              {"a", 3},
              {"b", 4},
              {"▁", 5},
              {"▁a", 6},
              {"ab", 7}}},
            {"merges", {"▁ a", "a b"}}}}};
}

Tokenizer load(const json& file) { return load_tokenizer_json(file.dump(), "tokenizer.json"); }

GgufVocabulary vocabulary_of(const json& file) {
  return read_gguf_vocabulary(file.dump(), "tokenizer.json", load(file));
}

// Through a GGUF file and back to a tokenizer.json.
json there_and_back(const GgufVocabulary& vocabulary) {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  vocabulary.add_to(metadata);
  GgufWriter(folder.file("x.gguf"), metadata, {}).finish();
  const GgufFile file = GgufFile::open(folder.file("x.gguf"));
  const GgufTokenizerFields fields(file);
  return json::parse(write_tokenizer_json(fields.data(), Tokenizer(fields.data())));
}

std::string refusal_of(const json& file) {
  try {
    vocabulary_of(file);
  } catch (const Unsupported& error) {
    return error.what();
  }
  return "none";
}

TEST(GgufVocabulary, NamesThePreTokenizerAndTheTypesOfTokens) {
  const GgufVocabulary vocabulary = vocabulary_of(byte_level());
  EXPECT_EQ(vocabulary.model, "gpt2");
  EXPECT_EQ(vocabulary.pre, "gpt-2");
  EXPECT_THAT(vocabulary.tokens,
              ElementsAre("<|end|>", "a", "b", "Ġ", "ab", "Ġab", "[PAD6]", "<tool>"));
  EXPECT_THAT(vocabulary.token_types, ElementsAre(3, 1, 1, 1, 1, 1, 5, 4));
  EXPECT_THAT(vocabulary.merges, ElementsAre("a b", "Ġ ab"));
  EXPECT_FALSE(vocabulary.add_bos);
}

TEST(GgufVocabulary, ComesBackEqual) {
  for (const json& file : {byte_level(), sentence_piece()}) {
    GgufVocabulary vocabulary = vocabulary_of(file);
    vocabulary.pad_to(12);
    const json back = there_and_back(vocabulary);
    EXPECT_EQ(back["model"]["vocab"], file["model"]["vocab"]);
    const Tokenizer before = load(file);
    const Tokenizer after = load(back);
    EXPECT_EQ(text_read_differently(before, after), std::nullopt);
    EXPECT_EQ(template_text_read_differently(before, after), std::nullopt);
    EXPECT_EQ(text_read_differently(before, vocabulary.tokenizer("x")), std::nullopt);
  }
}

TEST(GgufVocabulary, GivesMergesAsScores) {
  const GgufVocabulary vocabulary = vocabulary_of(sentence_piece());
  EXPECT_EQ(vocabulary.model, "llama");
  EXPECT_THAT(vocabulary.scores, ElementsAre(-2, -2, -2, -2, -2, -2, 0, -1));
  EXPECT_THAT(vocabulary.token_types, ElementsAre(2, 3, 6, 1, 1, 1, 1, 1));
  EXPECT_EQ(vocabulary.bos_id, 1);
  EXPECT_TRUE(vocabulary.add_bos);
  EXPECT_EQ(vocabulary.add_space_prefix, true);
}

TEST(GgufVocabulary, RefusesWhatGgufCanNotSay) {
  json file = byte_level();
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(refusal_of(file), HasSubstr("none that GGUF has a name for"));
  file = byte_level();
  file["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(refusal_of(file), HasSubstr("none that GGUF has a name for"));
  file = byte_level();
  file["normalizer"] = {{"type", "NFC"}};
  EXPECT_THAT(refusal_of(file), HasSubstr("none that GGUF has a name for"));
  for (const json& any : {byte_level(), sentence_piece()}) {
    file = any;
    file["model"]["end_of_word_suffix"] = "</w>";
    EXPECT_THAT(refusal_of(file), HasSubstr("no word for end_of_word_suffix"));
  }
  file = sentence_piece();
  file["model"]["merges"].erase(1);
  EXPECT_THAT(refusal_of(file), HasSubstr("those would allow 2"));
  file = sentence_piece();
  file["pre_tokenizer"] = {{"type", "Digits"}};
  EXPECT_THAT(refusal_of(file), HasSubstr("not those of a SentencePiece vocabulary"));
  file["model"] = {
      {"type", "WordPiece"}, {"unk_token", "<unk>"}, {"vocab", {{"<unk>", 0}, {"<s>", 1}}}};
  EXPECT_THAT(refusal_of(file), HasSubstr("only BPE"));
}

TEST(TokenizerAgreement, FindsAnOtherMergeAndAnOtherDecoder) {
  json other = byte_level();
  other["model"]["merges"].erase(1);
  EXPECT_THAT(text_read_differently(load(byte_level()), load(other)),
              Optional(HasSubstr(" blanks")));
  other = byte_level();
  other["decoder"] = {{"type", "Fuse"}};
  EXPECT_EQ(text_read_differently(load(byte_level()), load(other)), "Ġ");
  other = byte_level();
  other["added_tokens"][0]["lstrip"] = true;
  EXPECT_EQ(text_read_differently(load(byte_level()), load(other)), std::nullopt);
  EXPECT_EQ(template_text_read_differently(load(byte_level()), load(other)), "user <|end|> hi\n");
}

}  // namespace
}  // namespace perpend
