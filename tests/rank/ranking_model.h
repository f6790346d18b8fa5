#pragma once

#include <memory>
#include <numeric>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/models/loaded_model.h"
#include "perpend/nn/runtime.h"
#include "perpend/rank/block_ranker.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {

using Tokens = std::vector<std::int32_t>;

// A random model of four layers with four query heads a key head, and prompts for it.
class RankingModel {
 public:
  static constexpr int kNumLayers = 4;
  static constexpr std::int64_t kQueryPosition = 300;

  RankingModel() {
    TinyLlama tiny;
    tiny.num_layers = kNumLayers;
    tiny.num_q_heads = 4;
    tiny.num_kv_heads = 1;
    tiny.weight = TinyLlama::random(7);
    const std::string path = folder_.file("model.gguf");
    tiny.write(path);
    model_ = std::make_unique<LoadedModel>(path, LinearMode::kF32, runtime_.context());
  }

  const LoadedModel& loaded() const { return *model_; }
  const LanguageModel& network() const { return model_->network(); }
  Context& context() { return runtime_.context(); }

  static BlockRankConfig config(int layer = 3) {
    return {.layer = layer, .query_pos_offset = kQueryPosition, .chunk_len = 200};
  }
  BlockRanker ranker(const BlockRankerOptions& options = {.kv_dtype = DType::kF32}, int layer = 3) {
    return {network(), context(), config(layer), options};
  }

  static Tokens tokens(std::int64_t count, Random& random) {
    Tokens tokens;
    for (std::int64_t i = 0; i < count; ++i) {
      tokens.push_back(static_cast<std::int32_t>(random.next_below(TinyLlama::kVocabSize)));
    }
    return tokens;
  }
  // Documents of these lengths, one a single token.
  static RankPrompt prompt(std::uint64_t seed,
                           const std::vector<std::int64_t>& lengths = {30, 1, 64, 65, 17, 130}) {
    Random random(seed);
    RankPrompt prompt{.instruction = tokens(21, random), .documents = {}, .query = {}};
    for (const std::int64_t length : lengths) prompt.documents.push_back(tokens(length, random));
    prompt.query = tokens(13, random);
    return prompt;
  }

 private:
  TemporaryFolder folder_;
  Runtime runtime_{2};
  std::unique_ptr<LoadedModel> model_;
};

}  // namespace perpend
