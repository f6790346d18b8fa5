#include "perpend/io/tokenizer/component_json.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/word_scanner.h"

namespace perpend {
namespace {

SplitBehavior read_behavior(const JsonFields& fields, const char* otherwise) {
  const std::string behavior = fields.text("behavior", otherwise);
  if (behavior == "Removed") return SplitBehavior::kRemoved;
  if (behavior == "Isolated") return SplitBehavior::kIsolated;
  if (behavior == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (behavior == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (behavior == "Contiguous") return SplitBehavior::kContiguous;
  fields.fail("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

PrependScheme read_scheme(const JsonFields& fields) {
  // Files of before version 0.15 say only whether a space is put before.
  const bool adds = fields.flag("add_prefix_space", true);
  const std::string scheme = fields.text("prepend_scheme", adds ? "always" : "never");
  if (scheme == "always") return PrependScheme::kAlways;
  if (scheme == "first") return PrependScheme::kFirst;
  if (scheme == "never") return PrependScheme::kNever;
  fields.fail("prepend_scheme", "always, first or never");
}

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(TokenizerPipeline& pipeline) : pipeline_(pipeline) {}

  void read(const JsonFields& fields) {
    const std::string type = fields.text("type");
    if (type == "ByteLevel") {
      read_byte_level(fields);
    } else if (type == "Metaspace") {
      read_metaspace(fields);
    } else if (type == "Split") {
      add(split_pre_tokenizer(
          {read_pattern(fields), read_behavior(fields, "Isolated"), fields.flag("invert", false)}));
    } else if (type == "Digits") {
      const bool alone = fields.flag("individual_digits", false);
      split(character_pattern(is_number),
            alone ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
    } else if (type == "Punctuation") {
      split(character_pattern(is_punctuation), read_behavior(fields, "Isolated"));
    } else if (type == "WhitespaceSplit") {
      split(character_pattern(is_blank), SplitBehavior::kRemoved);
    } else if (type == "BertPreTokenizer") {
      split(character_pattern(is_blank), SplitBehavior::kRemoved);
      split(character_pattern(is_punctuation), SplitBehavior::kIsolated);
    } else if (type == "Whitespace") {
      add(split_pre_tokenizer({word_or_sign_pattern(), SplitBehavior::kRemoved, true}));
    } else {
      unsupported_component(fields,
                            "ByteLevel, Metaspace, Split, Digits, Punctuation, WhitespaceSplit, "
                            "BertPreTokenizer and Whitespace");
    }
  }

 private:
  void add(PreTokenizer step) { pipeline_.pre_tokenizers.push_back(std::move(step)); }
  void split(TextPattern pattern, SplitBehavior behavior) {
    add(split_pre_tokenizer({std::move(pattern), behavior}));
  }

  void read_byte_level(const JsonFields& fields) {
    if (fields.flag("add_prefix_space")) add(prefix_space_pre_tokenizer());
    if (fields.flag("use_regex", true)) {
      split(scanner_pattern(WordScanner::kGpt2), SplitBehavior::kIsolated);
    }
    add(byte_alphabet_pre_tokenizer());
  }

  void read_metaspace(const JsonFields& fields) {
    const PrependScheme scheme = read_scheme(fields);
    if (scheme == PrependScheme::kFirst) pipeline_.needs_origins = true;
    add(metaspace_pre_tokenizer(fields.character("replacement"), scheme,
                                fields.flag("split", true)));
  }

  TokenizerPipeline& pipeline_;
};

}  // namespace

void read_pre_tokenizers(const JsonFields& file, TokenizerPipeline& pipeline) {
  PreTokenizerReader reader(pipeline);
  pipeline.spells_bytes_last = false;
  for_each_component(file.find("pre_tokenizer"), file.path() + ".pre_tokenizer", "pretokenizers",
                     [&](const JsonFields& fields) {
                       reader.read(fields);
                       pipeline.spells_bytes_last = fields.text("type") == "ByteLevel";
                     });
}

}  // namespace perpend
