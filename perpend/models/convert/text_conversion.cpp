#include "perpend/models/convert/text_conversion.h"

#include <array>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/tokenizer/gguf_tokenizer_fields.h"
#include "perpend/io/tokenizer/gguf_vocabulary.h"
#include "perpend/io/tokenizer/tokenizer_agreement.h"
#include "perpend/io/tokenizer/tokenizer_json_writer.h"

namespace perpend {
namespace {

void check_agreement(const Tokenizer& from, const Tokenizer& to, std::string_view lead,
                     const std::string& path, std::vector<std::string>& notes) {
  if (const auto text = text_read_differently(from, to, lead)) {
    throw Unsupported(concat(
        path, ": the other form has no word for what its tokenizer does with '", *text, "'"));
  }
  if (const auto text = template_text_read_differently(from, to)) {
    notes.push_back(concat("text around special tokens is read differently, as in '", *text, "'"));
  }
}

// GGUF has room for two ends beside eos, and readers know the usual ones by their text.
void add_other_ends(const Checkpoint& source, const Tokenizer& tokenizer,
                    const SpecialTokenIds& ids, GgufMetadata& metadata) {
  std::vector<std::int32_t> ends = ids.other_ends;
  std::erase_if(ends, [&](std::int32_t id) { return is_usual_end(tokenizer, id); });
  constexpr std::array kKeys = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  if (ends.size() > kKeys.size()) {
    throw Unsupported(concat(source.path(), ": GGUF can name no more than ", kKeys.size() + 1,
                             " tokens that end a text; found ", ends.size() + 1));
  }
  for (std::size_t i = 0; i < ends.size(); ++i) {
    metadata.set(kKeys[i], static_cast<std::uint32_t>(ends[i]));
  }
}

}  // namespace

void add_text_metadata(const Checkpoint& source, const ModelConfig& config, GgufMetadata& metadata,
                       std::vector<std::string>& notes) {
  const std::string path = source.path() + "/tokenizer.json";
  const auto tokenizer = read_tokenizer(source);
  const SpecialTokenIds ids = read_special_token_ids(source, *tokenizer);
  GgufVocabulary vocabulary = read_gguf_vocabulary(source.tokenizer_json(), path, *tokenizer);
  const auto num_rows = static_cast<std::size_t>(config.vocab_size);
  if (vocabulary.tokens.size() > num_rows) {
    throw IoError(
        concat(path, ": ", vocabulary.tokens.size(), " tokens, but the model knows ", num_rows));
  }
  vocabulary.pad_to(num_rows);
  if (!vocabulary.bos_id) vocabulary.bos_id = ids.bos;
  if (!vocabulary.eos_id) vocabulary.eos_id = ids.eos;
  if (!vocabulary.unk_id) vocabulary.unk_id = ids.unk;
  vocabulary.pad_id = ids.pad;
  if (vocabulary.doubles_first_blank) {
    notes.emplace_back("GGUF puts a blank before every text, also one that begins with a blank");
  }
  check_agreement(*tokenizer, vocabulary.tokenizer(path), vocabulary.doubles_first_blank ? "a" : "",
                  path, notes);
  vocabulary.add_to(metadata);
  add_other_ends(source, *tokenizer, ids, metadata);
  const std::string chat_template = read_chat_template_text(source);
  if (!chat_template.empty()) metadata.set("tokenizer.chat_template", chat_template);
}

TokenizerFiles write_tokenizer_files(const Checkpoint& source, const Tokenizer& tokenizer,
                                     const SpecialTokenIds& ids, std::vector<std::string>& notes) {
  TokenizerFiles files;
  const GgufTokenizerFields fields(source.gguf());
  files.tokenizer_json = write_tokenizer_json(fields.data(), tokenizer);
  check_agreement(tokenizer, load_tokenizer_json(files.tokenizer_json, source.path()), "",
                  source.path(), notes);
  nlohmann::json object{{"tokenizer_class", "PreTrainedTokenizerFast"},
                        {"clean_up_tokenization_spaces", false}};
  const auto set_token = [&](const char* key, std::optional<std::int32_t> id) {
    if (id) object[key] = tokenizer.id_to_token(*id);
  };
  set_token("bos_token", ids.bos);
  set_token("eos_token", ids.eos);
  set_token("unk_token", ids.unk);
  set_token("pad_token", ids.pad);
  const std::string chat_template = read_chat_template_text(source);
  if (!chat_template.empty()) object["chat_template"] = chat_template;
  files.tokenizer_config_json = json_document(object, source.path());
  return files;
}

}  // namespace perpend
