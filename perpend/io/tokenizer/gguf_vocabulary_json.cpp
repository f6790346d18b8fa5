#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/component_json.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/gguf_vocabulary.h"
#include "perpend/io/tokenizer/score_merges.h"
#include "perpend/io/tokenizer/special_frame.h"
#include "perpend/io/tokenizer/tokenizer_components.h"

namespace perpend {
namespace {

using nlohmann::json;

using MergeIds = std::pair<std::int32_t, std::int32_t>;

std::map<MergeIds, std::int32_t> ranks_by_score(const GgufVocabulary& from,
                                                const std::string& name) {
  const std::vector<std::string_view> tokens(from.tokens.begin(), from.tokens.end());
  Vocabulary vocabulary;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (is_made_by_model(GgufTokenType{from.token_types[i]})) {
      vocabulary.add(tokens[i], static_cast<std::int32_t>(i));
    }
  }
  GgufTokenizerData data;
  data.name = name;
  data.tokens = tokens;
  data.token_types = from.token_types;
  data.scores = from.scores;
  std::map<MergeIds, std::int32_t> ranks;
  for (const ScoreMerge& merge : merges_by_score(data, vocabulary)) {
    ranks.emplace(MergeIds(merge.left, merge.right), merge.rank);
  }
  return ranks;
}

class VocabularyReader {
 public:
  VocabularyReader(const JsonFields& file, const Tokenizer& tokenizer)
      : file_(file), model_(file.fields("model")), tokenizer_(tokenizer) {}

  GgufVocabulary read() {
    if (model_.find("merges") == nullptr || model_.text("type", "BPE") != "BPE") {
      unsupported("model: only BPE vocabularies can be written to GGUF");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model_.text(key, "").empty()) unsupported(concat("GGUF has no word for ", key));
    }
    for (const json& merge : model_.array("merges")) merges_.push_back(read_merge(model_, merge));
    read_tokens();
    read_special_ids();
    if (model_.flag("byte_fallback", false)) {
      read_sentence_piece();
    } else {
      read_byte_level();
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void unsupported(std::string_view what) const {
    throw Unsupported(concat(file_.path(), ": ", what));
  }

  void read_tokens() {
    const std::size_t count = tokenizer_.vocab_size();
    const bool spells_bytes = model_.flag("byte_fallback", false);
    result_.tokens.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto id = static_cast<std::int32_t>(i);
      const std::string text(tokenizer_.id_to_token(id));
      if (text.empty()) {
        result_.pad_to(i + 1);
        continue;
      }
      GgufTokenType type = GgufTokenType::kNormal;
      if (tokenizer_.is_special(id)) type = GgufTokenType::kControl;
      if (spells_bytes && byte_of_token(text)) type = GgufTokenType::kByte;
      result_.tokens.push_back(text);
      result_.token_types.push_back(static_cast<std::int32_t>(type));
    }
    mark_added_tokens();
  }

  void set_type(std::int32_t id, GgufTokenType type) {
    result_.token_types[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(type);
  }

  void mark_added_tokens() {
    if (file_.find("added_tokens") == nullptr) return;
    for (const json& token : file_.array("added_tokens")) {
      const auto id = tokenizer_.token_to_id(token["content"].get_ref<const std::string&>());
      if (id && !tokenizer_.is_special(*id)) set_type(*id, GgufTokenType::kUserDefined);
    }
  }

  void read_special_ids() {
    const SpecialFrame frame = special_frame(tokenizer_);
    const auto joined = [&](std::optional<std::int32_t> named, std::optional<std::int32_t> put,
                            std::string_view name) {
      if (named && put && *named != *put) {
        unsupported(concat("GGUF can put no other token than ", name, " around a text"));
      }
      return named ? named : put;
    };
    result_.bos_id = joined(tokenizer_.bos_id(), frame.first, "bos");
    result_.eos_id = joined(tokenizer_.eos_id(), frame.last, "eos");
    result_.add_bos = frame.first.has_value();
    result_.add_eos = frame.last.has_value();
    const std::string unk = model_.text("unk_token", "");
    if (!unk.empty()) result_.unk_id = tokenizer_.token_to_id(unk);
  }

  void read_byte_level() {
    const bool ignores_merges = model_.flag("ignore_merges", false);
    const auto kinds = gguf_pre_tokenizers();
    const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const GgufPreTokenizer& known) {
      return known.ignore_merges == ignores_merges &&
             has_components(file_, byte_level_components(known));
    });
    if (kind == kinds.end()) {
      unsupported(
          "its normalizer, pre_tokenizer and ignore_merges are none that GGUF has a name "
          "for; those of smollm, gpt-2, llama-bpe and qwen2 are built");
    }
    result_.model = "gpt2";
    result_.pre = kind->name;
    for (const auto& [left, right] : merges_) result_.merges.push_back(concat(left, " ", right));
  }

  void read_sentence_piece() {
    read_space_prefix();
    result_.model = "llama";
    if (result_.unk_id) set_type(*result_.unk_id, GgufTokenType::kUnknown);
    read_scores();
    check_scores();
  }

  void read_space_prefix() {
    const auto is_any_of = [&](const std::vector<TokenizerComponents>& spellings) {
      return std::any_of(spellings.begin(), spellings.end(), [&](const TokenizerComponents& parts) {
        return has_components(file_, parts);
      });
    };
    for (const bool adds_space : {true, false}) {
      const bool is_metaspace = is_any_of(metaspace_components(adds_space));
      if (!is_metaspace && !is_any_of({sentence_piece_components(adds_space)})) continue;
      result_.add_space_prefix = adds_space;
      result_.doubles_first_blank = is_metaspace && adds_space;
      return;
    }
    unsupported("its normalizer and pre_tokenizer are not those of a SentencePiece vocabulary");
  }

  // A token's score falls with the place of its first merge. Tokens whose merges are interleaved
  // have one score (runs of blanks in Llama 2); those that no merge makes come last.
  void read_scores() {
    std::vector<std::int32_t> merged;
    merged.reserve(merges_.size());
    for (const auto& [left, right] : merges_) {
      merged.push_back(tokenizer_.token_to_id(concat(left, right)).value());
    }
    std::unordered_map<std::int32_t, std::size_t> last_merge;
    for (std::size_t i = 0; i < merged.size(); ++i) last_merge[merged[i]] = i;
    result_.scores.assign(result_.tokens.size(), -static_cast<float>(merged.size()));
    std::size_t group_begin = 0;
    std::size_t group_last = 0;
    for (std::size_t i = 0; i < merged.size(); ++i) {
      if (i > group_last) group_begin = i;
      group_last = std::max(group_last, last_merge[merged[i]]);
      result_.scores[static_cast<std::size_t>(merged[i])] = -static_cast<float>(group_begin);
    }
  }

  // Scores say that any two tokens may merge that join to a third: whether the list says the same.
  void check_scores() const {
    const std::map<MergeIds, std::int32_t> ranks = ranks_by_score(result_, file_.path());
    std::int32_t last = 0;
    for (const auto& [left, right] : merges_) {
      const auto found =
          ranks.find({*tokenizer_.token_to_id(left), *tokenizer_.token_to_id(right)});
      if (found == ranks.end() || found->second < last) {
        unsupported(concat("its merges are not those of a SentencePiece vocabulary, which GGUF ",
                           "gives as scores; the first other one is '", left, " ", right, "'"));
      }
      last = found->second;
    }
    if (merges_.size() != ranks.size()) {
      unsupported(concat("its merges are not those of a SentencePiece vocabulary, which GGUF ",
                         "gives as scores; those would allow ", ranks.size()));
    }
  }

  const JsonFields& file_;
  JsonFields model_;
  const Tokenizer& tokenizer_;
  std::vector<MergeSides> merges_;
  GgufVocabulary result_;
};

}  // namespace

GgufVocabulary read_gguf_vocabulary(std::string_view json_text, const std::string& name,
                                    const Tokenizer& tokenizer) {
  const json object = parse_json_object(json_text, name);
  const JsonFields file(object, name);
  return VocabularyReader(file, tokenizer).read();
}

}  // namespace perpend
