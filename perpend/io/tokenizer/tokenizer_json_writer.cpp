#include "perpend/io/tokenizer/tokenizer_json_writer.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/tokenizer/gguf_pre_tokenizer.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/gguf_vocabulary.h"
#include "perpend/io/tokenizer/score_merges.h"
#include "perpend/io/tokenizer/special_frame.h"
#include "perpend/io/tokenizer/tokenizer_components.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

using nlohmann::json;

class TokenizerJsonWriter {
 public:
  TokenizerJsonWriter(const GgufTokenizerData& data, const Tokenizer& tokenizer)
      : data_(data), tokenizer_(tokenizer) {}

  json write() const {
    const bool is_byte_level = data_.model == "gpt2";
    if (!is_byte_level && data_.model != "llama") {
      throw Unsupported(concat(data_.name, ": tokenizer.ggml.model '", data_.model,
                               "' can not be written as tokenizer.json; gpt2 and llama can"));
    }
    TokenizerComponents components = is_byte_level ? byte_level_components(pre_tokenizer())
                                                   : sentence_piece_components(adds_space());
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added_tokens()},
            {"normalizer", std::move(components.normalizer)},
            {"pre_tokenizer", std::move(components.pre_tokenizer)},
            {"post_processor", post_processor()},
            {"decoder", std::move(components.decoder)},
            {"model", is_byte_level ? byte_level_model() : sentence_piece_model()}};
  }

 private:
  // Reading the vocabulary has refused all other names.
  const GgufPreTokenizer& pre_tokenizer() const { return *find_gguf_pre_tokenizer(data_.pre); }
  bool adds_space() const { return data_.add_space_prefix.value_or(true); }
  std::string text_of(std::int32_t id) const { return std::string(tokenizer_.id_to_token(id)); }

  bool is_gap(std::size_t id) const {
    return type_of(data_, id) == GgufTokenType::kUnused && is_gap_token(data_.tokens[id], id);
  }

  json added_tokens() const {
    json list = json::array();
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      const GgufTokenType type = type_of(data_, id);
      const std::string text = text_of(static_cast<std::int32_t>(id));
      // The unknown token is special there, too.
      const bool is_special = !is_made_by_model(type);
      if ((!is_special && type != GgufTokenType::kUserDefined) || text.empty()) continue;
      list.push_back({{"id", id},
                      {"content", text},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", is_special}});
    }
    return list;
  }

  json vocabulary() const {
    json vocab = json::object();
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!is_gap(id)) vocab[text_of(static_cast<std::int32_t>(id))] = id;
    }
    return vocab;
  }

  json bpe(json merges) const {
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary()},
            {"merges", std::move(merges)}};
  }

  json byte_level_model() const {
    json merges = json::array();
    for (const std::string_view merge : data_.merges) merges.push_back(valid_utf8(merge));
    json model = bpe(std::move(merges));
    model["ignore_merges"] = pre_tokenizer().ignore_merges;
    return model;
  }

  json sentence_piece_model() const {
    Vocabulary made;
    for (std::size_t id = 0; id < data_.tokens.size(); ++id) {
      const auto token = static_cast<std::int32_t>(id);
      if (is_made_by_model(type_of(data_, id))) made.add(tokenizer_.id_to_token(token), token);
    }
    json merges = json::array();
    for (const ScoreMerge& merge : merges_by_score(data_, made)) {
      // As lists of two: a token may hold a blank.
      merges.push_back(json::array({text_of(merge.left), text_of(merge.right)}));
    }
    json model = bpe(std::move(merges));
    if (data_.unk_id) model["unk_token"] = text_of(static_cast<std::int32_t>(*data_.unk_id));
    model["fuse_unk"] = true;
    model["byte_fallback"] = true;
    return model;
  }

  json post_processor() const {
    const SpecialFrame frame = special_frame(tokenizer_);
    if (!frame.first && !frame.last) return nullptr;
    json single = json::array();
    json special = json::object();
    const auto add_token = [&](const std::optional<std::int32_t>& id) {
      if (!id) return;
      const std::string text = text_of(*id);
      single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
      special[text] = {{"id", text}, {"ids", {*id}}, {"tokens", {text}}};
    };
    add_token(frame.first);
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    add_token(frame.last);
    json pair = single;
    for (json piece : single) {
      auto& part = piece.begin().value();
      part["type_id"] = 1;
      if (piece.contains("Sequence")) part["id"] = "B";
      pair.push_back(std::move(piece));
    }
    return {{"type", "TemplateProcessing"},
            {"single", std::move(single)},
            {"pair", std::move(pair)},
            {"special_tokens", std::move(special)}};
  }

  const GgufTokenizerData& data_;
  const Tokenizer& tokenizer_;
};

}  // namespace

std::string write_tokenizer_json(const GgufTokenizerData& data, const Tokenizer& tokenizer) {
  return json_document(TokenizerJsonWriter(data, tokenizer).write(), data.name);
}

}  // namespace perpend
