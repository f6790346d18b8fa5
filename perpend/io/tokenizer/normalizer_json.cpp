#include "perpend/core/error.h"
#include "perpend/io/tokenizer/component_json.h"
#include "perpend/io/tokenizer/regex.h"
#include "perpend/io/tokenizer/word_scanner.h"

namespace perpend {
namespace {

Normalizer normal_form(bool compatible, bool composed) {
  return [form = NormalForm{compatible, composed}](AlignedText& text) { normalize(text, form); };
}

Normalizer read_bert(const JsonFields& fields) {
  BertNormalizerOptions options;
  options.clean_text = fields.flag("clean_text");
  options.separate_ideographs = fields.flag("handle_chinese_chars");
  options.lowercase = fields.flag("lowercase");
  options.strip_accents = fields.flag("strip_accents", options.lowercase);
  return bert_normalizer(options);
}

Normalizer read_normalizer(const JsonFields& fields) {
  const std::string type = fields.text("type");
  if (type == "NFC") return normal_form(false, true);
  if (type == "NFD") return normal_form(false, false);
  if (type == "NFKC") return normal_form(true, true);
  if (type == "NFKD") return normal_form(true, false);
  if (type == "Lowercase") return lowercase_normalizer();
  if (type == "StripAccents") return strip_accents_normalizer();
  if (type == "Nmt") return nmt_normalizer();
  if (type == "ByteLevel") return byte_alphabet_normalizer();
  if (type == "BertNormalizer") return read_bert(fields);
  if (type == "Prepend") return prepend_normalizer(fields.text("prepend"));
  if (type == "Strip") {
    return strip_normalizer(fields.flag("strip_left"), fields.flag("strip_right"));
  }
  if (type == "Replace") return replace_normalizer(read_pattern(fields), fields.text("content"));
  unsupported_component(fields,
                        "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Nmt, ByteLevel, "
                        "BertNormalizer, Prepend, Strip and Replace");
}

}  // namespace

void unsupported_component(const JsonFields& fields, const char* built) {
  throw Unsupported(
      concat(fields.path(), ": '", fields.text("type"), "' is not built; ", built, " are"));
}

TextPattern read_pattern(const JsonFields& fields) {
  const JsonFields pattern = fields.fields("pattern");
  if (pattern.find("String") != nullptr) {
    const std::string literal = pattern.text("String");
    // An empty literal matches everywhere, as an empty expression does.
    return literal.empty() ? regex_pattern("", pattern.path()) : literal_pattern(literal);
  }
  const std::string regex = pattern.text("Regex");
  if (const auto scanner = scanner_for(regex)) return scanner_pattern(*scanner);
  return regex_pattern(regex, pattern.path());
}

void read_normalizers(const JsonFields& file, TokenizerPipeline& pipeline) {
  for_each_component(
      file.find("normalizer"), file.path() + ".normalizer", "normalizers",
      [&](const JsonFields& fields) { pipeline.normalizers.push_back(read_normalizer(fields)); });
}

}  // namespace perpend
