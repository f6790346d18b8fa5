#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/tokenizer/component_json.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {
namespace {

using nlohmann::json;

// Matching costs at most this much a character of text.
constexpr std::size_t kMaxAddedTokenBytes = 4096;

AddedToken read_added_token(const JsonFields& fields, const TokenizerPipeline& pipeline) {
  AddedToken token;
  token.content = fields.text("content");
  if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
    fields.fail("content", concat("1 to ", kMaxAddedTokenBytes, " bytes"));
  }
  // New ids follow those of the model, so they are never far above what there is.
  token.id = static_cast<std::int32_t>(
      fields.integer("id", 0, static_cast<std::int64_t>(pipeline.entries.size()) + (1 << 20)));
  token.single_word = fields.flag("single_word", false);
  token.lstrip = fields.flag("lstrip", false);
  token.rstrip = fields.flag("rstrip", false);
  token.special = fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  return token;
}

void read_added_tokens(const JsonFields& file, TokenizerPipeline& pipeline) {
  if (file.find("added_tokens") == nullptr) return;
  std::size_t i = 0;
  for (const json& value : file.array("added_tokens")) {
    const JsonFields fields(value, concat(file.path(), ".added_tokens[", i++, "]"));
    const AddedToken token = read_added_token(fields, pipeline);
    pipeline.add_entry(token.id, token.content, token.special);
    pipeline.add_added_token(token);
  }
}

}  // namespace

Tokenizer load_tokenizer_json(std::string_view json_text, const std::string& name) {
  try {
    const json object = parse_json_object(json_text, name);
    const JsonFields file(object, name);
    auto pipeline = std::make_unique<TokenizerPipeline>();
    pipeline->name = name;
    read_normalizers(file, *pipeline);
    read_pre_tokenizers(file, *pipeline);
    read_vocabulary(file, *pipeline);
    read_added_tokens(file, *pipeline);
    read_model(file, *pipeline);
    read_post_processor(file, *pipeline);
    read_decoder(file, *pipeline);
    return Tokenizer(std::move(pipeline));
  } catch (const json::exception& error) {
    throw IoError(concat(name, ": ", error.what()));
  }
}

}  // namespace perpend
