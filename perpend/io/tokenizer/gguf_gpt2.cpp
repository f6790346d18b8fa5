#include "perpend/core/error.h"
#include "perpend/io/tokenizer/bpe_model.h"
#include "perpend/io/tokenizer/gguf_pre_tokenizer.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

const GgufPreTokenizer& pre_tokenizer_of(const GgufTokenizerData& data) {
  if (const GgufPreTokenizer* found = find_gguf_pre_tokenizer(data.pre)) return *found;
  std::string known;
  for (const GgufPreTokenizer& kind : gguf_pre_tokenizers()) {
    known += concat(known.empty() ? "" : ", ", kind.name);
  }
  throw Unsupported(
      concat(data.name, ": tokenizer.ggml.pre '", data.pre, "' is not built; ", known, " are"));
}

BytePairMerger read_merges(const GgufTokenizerData& data, const TokenizerPipeline& pipeline) {
  BytePairMerger merger;
  merger.reserve(data.merges.size());
  std::int32_t rank = 0;
  for (const std::string_view merge : data.merges) {
    // The separator is the first blank that leaves something on its left.
    const std::size_t blank = merge.find(' ', 1);
    if (blank == std::string_view::npos) {
      throw IoError(concat(data.name, ": merge '", valid_utf8(merge.substr(0, 100)),
                           "': expected two tokens"));
    }
    const std::string_view left = merge.substr(0, blank);
    const std::string_view right = merge.substr(blank + 1);
    merger.add(pipeline.require_id(left), pipeline.require_id(right),
               pipeline.require_id(concat(left, right)), rank++);
  }
  return merger;
}

}  // namespace

GgufDefaults build_gguf_gpt2(const GgufTokenizerData& data, TokenizerPipeline& pipeline) {
  const GgufPreTokenizer& kind = pre_tokenizer_of(data);
  if (kind.nfc) {
    pipeline.normalizers.push_back(
        [](AlignedText& text) { normalize(text, {.compatible = false, .composed = true}); });
  }
  if (kind.digits_alone) {
    pipeline.pre_tokenizers.push_back(
        split_pre_tokenizer({character_pattern(is_number), SplitBehavior::kIsolated}));
  }
  pipeline.pre_tokenizers.push_back(
      split_pre_tokenizer({scanner_pattern(kind.scanner), SplitBehavior::kIsolated}));
  BpeOptions options;
  options.bytes = true;
  options.ignore_merges = kind.ignore_merges;
  pipeline.model =
      std::make_unique<BpeModel>(pipeline.model_vocabulary, read_merges(data, pipeline), options);
  pipeline.decoder = {byte_level_decoder()};
  pipeline.byte_spelling = ByteSpelling::kAlphabet;
  return {.add_bos = kind.add_bos};
}

}  // namespace perpend
