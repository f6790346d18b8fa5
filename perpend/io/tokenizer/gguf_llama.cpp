#include <algorithm>
#include <numeric>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/bpe_model.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
// Finding the pairs that make a token takes time square in its length.
constexpr std::size_t kMaxTokenBytes = 1024;

bool is_merged(GgufTokenType type) {
  return is_made_by_model(type) && type != GgufTokenType::kByte;
}

// Tokens by falling score; equal scores get equal ranks.
std::vector<std::int32_t> ranks_of(std::span<const float> scores) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](std::int32_t id) { return scores[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return score(a) > score(b); });
  std::vector<std::int32_t> ranks(scores.size());
  std::int32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i != 0 && score(order[i]) < score(order[i - 1])) ++rank;
    ranks[static_cast<std::size_t>(order[i])] = rank;
  }
  return ranks;
}

// SentencePiece has no list of merges: any two tokens that join to a third may merge, those first
// whose result has the highest score.
BytePairMerger merges_by_score(const GgufTokenizerData& data, const TokenizerPipeline& pipeline) {
  const std::vector<std::int32_t> ranks = ranks_of(data.scores);
  BytePairMerger merger;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (!is_merged(type_of(data, id))) continue;
    const std::string_view token = pipeline.entries[id].text;
    if (token.size() > kMaxTokenBytes) {
      throw IoError(concat(data.name, ": token ", id, " has ", token.size(),
                           " bytes; expected at most ", kMaxTokenBytes));
    }
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if (is_utf8_continuation(token[cut])) continue;
      const auto left = pipeline.model_vocabulary->find(token.substr(0, cut));
      const auto right = pipeline.model_vocabulary->find(token.substr(cut));
      if (left && right) merger.add(*left, *right, static_cast<std::int32_t>(id), ranks[id]);
    }
  }
  return merger;
}

}  // namespace

GgufDefaults build_gguf_llama(const GgufTokenizerData& data, std::optional<std::int32_t> unk_id,
                              TokenizerPipeline& pipeline) {
  if (data.scores.empty() && !data.tokens.empty()) {
    throw IoError(concat(data.name, ": tokenizer.ggml.scores is missing; model llama needs it"));
  }
  if (std::any_of(data.scores.begin(), data.scores.end(), [](float s) { return s != s; })) {
    throw IoError(concat(data.name, ": tokenizer.ggml.scores: expected numbers, found NaN"));
  }
  const bool adds_space = data.add_space_prefix.value_or(true);
  if (adds_space) pipeline.normalizers.push_back(prepend_normalizer(std::string(kSpace)));
  pipeline.normalizers.push_back(replace_normalizer(literal_pattern(" "), std::string(kSpace)));
  BpeOptions options;
  options.unk_id = unk_id;
  options.fuse_unk = true;
  options.byte_fallback = true;
  pipeline.model = std::make_unique<BpeModel>(pipeline.model_vocabulary,
                                              merges_by_score(data, pipeline), options);
  pipeline.decoder = {replace_decoder(literal_pattern(std::string(kSpace)), " "),
                      byte_fallback_decoder(), fuse_decoder()};
  if (adds_space) pipeline.decoder.push_back(strip_decoder(" ", 1, 0));
  pipeline.byte_spelling = ByteSpelling::kTokens;
  return {.add_bos = true};
}

}  // namespace perpend
