#include "perpend/io/tokenizer/bpe_model.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/score_merges.h"

namespace perpend {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

BytePairMerger read_merges(const GgufTokenizerData& data, const Vocabulary& vocabulary) {
  const std::vector<ScoreMerge> merges = merges_by_score(data, vocabulary);
  BytePairMerger merger;
  merger.reserve(merges.size());
  for (const ScoreMerge& merge : merges) {
    merger.add(merge.left, merge.right, merge.merged, merge.rank);
  }
  return merger;
}

}  // namespace

GgufDefaults build_gguf_llama(const GgufTokenizerData& data, std::optional<std::int32_t> unk_id,
                              TokenizerPipeline& pipeline) {
  const bool adds_space = data.add_space_prefix.value_or(true);
  if (adds_space) pipeline.normalizers.push_back(prepend_normalizer(std::string(kSpace)));
  pipeline.normalizers.push_back(replace_normalizer(literal_pattern(" "), std::string(kSpace)));
  BpeOptions options;
  options.unk_id = unk_id;
  options.fuse_unk = true;
  options.byte_fallback = true;
  pipeline.model = std::make_unique<BpeModel>(
      pipeline.model_vocabulary, read_merges(data, *pipeline.model_vocabulary), options);
  pipeline.decoder = {replace_decoder(literal_pattern(std::string(kSpace)), " "),
                      byte_fallback_decoder(), fuse_decoder()};
  if (adds_space) pipeline.decoder.push_back(strip_decoder(" ", 1, 0));
  pipeline.byte_spelling = ByteSpelling::kTokens;
  return {.add_bos = true};
}

}  // namespace perpend
