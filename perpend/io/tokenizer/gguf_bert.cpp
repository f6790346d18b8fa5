#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/wordpiece_model.h"

namespace perpend {
namespace {

// Marks tokens that begin a word; those within one have no mark.
constexpr std::string_view kWordStart = "\xE2\x96\x81";  // U+2581

}  // namespace

GgufDefaults build_gguf_bert(const GgufTokenizerData& data, std::optional<std::int32_t> unk_id,
                             TokenizerPipeline& pipeline) {
  WordPieceOptions options;
  options.unk_id = unk_id ? *unk_id : pipeline.require_id("[UNK]");
  options.first_prefix = kWordStart;
  options.continuing_prefix = "";
  for (const std::string_view token : data.tokens) {
    options.max_token_bytes = std::max(options.max_token_bytes, token.size());
  }
  // The format has no field for case or accents: its models are uncased.
  pipeline.normalizers = {bert_normalizer({})};
  pipeline.pre_tokenizers = {
      split_pre_tokenizer({character_pattern(is_blank), SplitBehavior::kRemoved}),
      split_pre_tokenizer({character_pattern(is_punctuation), SplitBehavior::kIsolated})};
  pipeline.model = std::make_unique<WordPieceModel>(pipeline.model_vocabulary, options);
  pipeline.decoder = {replace_decoder(literal_pattern(std::string(kWordStart)), " "),
                      fuse_decoder(), strip_decoder(" ", 1, 0)};
  return {.add_bos = true, .add_eos = true};
}

}  // namespace perpend
