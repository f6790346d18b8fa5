#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/bpe_model.h"
#include "perpend/io/tokenizer/component_json.h"
#include "perpend/io/tokenizer/utf8.h"
#include "perpend/io/tokenizer/wordpiece_model.h"

namespace perpend {
namespace {

using nlohmann::json;

// Entries are held by id; the largest vocabularies have a quarter million.
constexpr std::int64_t kMaxId = 1 << 21;

std::string quoted(std::string_view text) {
  return concat("'", valid_utf8(text.substr(0, 100)), "'");
}

std::int32_t require_id(const JsonFields& model, const Vocabulary& vocabulary, const char* key,
                        std::string_view token) {
  if (const auto id = vocabulary.find(token)) return *id;
  model.fail(key, concat("a token of the vocabulary, found ", quoted(token)));
}

// Files of before version 0.9 do not name the model; BPE has merges, WordPiece has none.
std::string type_of(const JsonFields& model) {
  return model.text("type", model.find("merges") == nullptr ? "WordPiece" : "BPE");
}

[[noreturn]] void fail_merge(const JsonFields& model, const json& merge) {
  model.fail("merges",
             concat("two tokens of the vocabulary that join to a third, found ",
                    merge.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 200)));
}

class BpeReader {
 public:
  BpeReader(const JsonFields& model, std::shared_ptr<const Vocabulary> vocabulary)
      : model_(model), vocabulary_(std::move(vocabulary)) {}

  std::unique_ptr<const Model> read(bool word_spells_bytes, bool& takes_bytes) {
    BpeOptions options;
    const std::string unk = model_.text("unk_token", "");
    if (!unk.empty()) options.unk_id = require_id(model_, *vocabulary_, "unk_token", unk);
    options.fuse_unk = model_.flag("fuse_unk", false);
    options.byte_fallback = model_.flag("byte_fallback", false);
    options.ignore_merges = model_.flag("ignore_merges", false);
    options.continuing_prefix = model_.text("continuing_subword_prefix", "");
    options.end_suffix = model_.text("end_of_word_suffix", "");
    takes_bytes = options.bytes = word_spells_bytes && !options.unk_id && !options.byte_fallback &&
                                  options.continuing_prefix.empty() && options.end_suffix.empty();
    return std::make_unique<BpeModel>(vocabulary_, read_merges(options.continuing_prefix), options);
  }

 private:
  BytePairMerger read_merges(const std::string& continuing_prefix) {
    const json& merges = model_.array("merges");
    BytePairMerger merger;
    merger.reserve(merges.size());
    std::int32_t rank = 0;
    for (const json& merge : merges) {
      const auto [left, right] = read_merge(model_, merge);
      if (!right.starts_with(continuing_prefix)) fail_merge(model_, merge);
      merged_.assign(left).append(right.substr(continuing_prefix.size()));
      const auto left_id = vocabulary_->find(left);
      const auto right_id = vocabulary_->find(right);
      const auto merged_id = vocabulary_->find(merged_);
      if (!left_id || !right_id || !merged_id) fail_merge(model_, merge);
      merger.add(*left_id, *right_id, *merged_id, rank++);
    }
    return merger;
  }

  const JsonFields& model_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::string merged_;
};

std::unique_ptr<const Model> read_wordpiece(const JsonFields& model,
                                            std::shared_ptr<const Vocabulary> vocabulary) {
  WordPieceOptions options;
  options.unk_id = require_id(model, *vocabulary, "unk_token", model.text("unk_token", "[UNK]"));
  options.continuing_prefix = model.text("continuing_subword_prefix", "##");
  options.max_characters = 100;
  if (model.find("max_input_chars_per_word") != nullptr) {
    options.max_characters = static_cast<std::size_t>(
        model.integer("max_input_chars_per_word", 0, std::int64_t{1} << 40));
  }
  for (const auto& item : model.object("vocab").items()) {
    options.max_token_bytes = std::max(options.max_token_bytes, item.key().size());
  }
  return std::make_unique<WordPieceModel>(std::move(vocabulary), options);
}

}  // namespace

MergeSides read_merge(const JsonFields& model, const json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  const std::string_view pair =
      merge.is_string() ? merge.get_ref<const std::string&>() : std::string_view();
  const std::size_t blank = pair.find(' ', 1);
  if (pair.empty() || blank == std::string_view::npos) fail_merge(model, merge);
  return {pair.substr(0, blank), pair.substr(blank + 1)};
}

void read_vocabulary(const JsonFields& file, TokenizerPipeline& pipeline) {
  const JsonFields model = file.fields("model");
  const std::string type = type_of(model);
  if (type != "BPE" && type != "WordPiece") {
    throw Unsupported(
        concat(model.path(), ": model type '", type, "' is not built; BPE and WordPiece are"));
  }
  const json& vocab = model.object("vocab");
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->reserve(vocab.size());
  pipeline.ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || id < 0 || id >= kMaxId) {
      model.fail("vocab", concat("an id below ", kMaxId, " for ", quoted(token)));
    }
    vocabulary->add(token, id.get<std::int32_t>());
    pipeline.add_entry(id.get<std::int32_t>(), token, false);
  }
  pipeline.model_vocabulary = std::move(vocabulary);
}

void read_model(const JsonFields& file, TokenizerPipeline& pipeline) {
  const JsonFields model = file.fields("model");
  if (type_of(model) == "WordPiece") {
    pipeline.model = read_wordpiece(model, pipeline.model_vocabulary);
    return;
  }
  bool takes_bytes = false;
  pipeline.model =
      BpeReader(model, pipeline.model_vocabulary).read(pipeline.spells_bytes_last, takes_bytes);
  // The model looks bytes up itself, which spares spelling every text.
  if (takes_bytes) pipeline.pre_tokenizers.pop_back();
}

}  // namespace perpend
