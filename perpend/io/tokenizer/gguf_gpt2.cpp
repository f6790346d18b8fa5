#include "perpend/core/error.h"
#include "perpend/io/tokenizer/bpe_model.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"
#include "perpend/io/tokenizer/word_scanner.h"

namespace perpend {
namespace {

// What a name under tokenizer.ggml.pre stands for.
struct PreTokenizerKind {
  WordScanner scanner = WordScanner::kGpt2;
  bool digits_alone = false;  // before the scanner sees the text
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

PreTokenizerKind kind_of(const GgufTokenizerData& data) {
  const std::string_view pre = data.pre;
  if (pre == "gpt-2" || pre.empty() || pre == "default") return {};
  if (pre == "smollm") return {.digits_alone = true};
  if (pre == "qwen2") return {.scanner = WordScanner::kQwen2, .nfc = true};
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    return {.scanner = WordScanner::kLlama3, .ignore_merges = true, .add_bos = true};
  }
  throw Unsupported(concat(data.name, ": tokenizer.ggml.pre '", pre,
                           "' is not built; smollm, gpt-2, llama-bpe and qwen2 are"));
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
  const PreTokenizerKind kind = kind_of(data);
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
