// Runs rankings for the oracle test, every weight and key in f32:
//   rank rank MODEL RUNS.json     {"scores", "weights", "logits"} of each run
//   rank config MODEL...          {"layer", ...} of each model, or {"error"}
//   rank bm25 RUNS.json           scores of each query of each run
//
// A run of `rank` is {"instruction": [token, ...], "documents": [[token, ...], ...], "query":
// [token, ...], "layer", "query_pos_offset", "signal_tokens", "packing": "packed" or "padded"}; its
// logits are those of the query block after all layers. A run of `bm25` is {"texts": [...],
// "queries": [...], "k1", "b", "floor"}.

#include <numeric>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"
#include "perpend/nn/runtime.h"
#include "perpend/rank/block_ranker.h"
#include "perpend/rank/bm25.h"

namespace perpend::rank_tool {
namespace {

using nlohmann::json;
using Tokens = std::vector<std::int32_t>;

json query_logits(const Llama& model, const RankPrompt& prompt, std::int64_t query_pos_offset,
                  RankPacking packing, Context& context) {
  const ModelConfig& config = model.config();
  const RankLayout layout = lay_out(prompt, query_pos_offset, packing, 64);
  KvStore store(kv_store_config(config, DType::kF32, layout.num_places));
  KvSequence sequence(store);
  if (!sequence.append(layout.num_places)) throw std::runtime_error("the cache is too small");
  std::vector<KvRows> rows;
  for (const Range& places : layout.passes)
    rows.push_back({&sequence, places.begin, places.size()});
  Tokens wanted(prompt.query.size());
  std::iota(wanted.begin(), wanted.end(),
            static_cast<std::int32_t>(layout.blocks.back().rows.begin));
  const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers), layout.mask);
  const torch::Tensor logits = model.forward({.tokens = layout.tokens,
                                              .sequences = rows,
                                              .layer_masks = masks,
                                              .logit_rows = wanted,
                                              .positions = layout.positions},
                                             context);
  json result = json::array();
  for (std::int64_t row = 0; row < logits.size(0); ++row) {
    const float* first = logits.data_ptr<float>() + row * logits.size(1);
    result.push_back(std::vector<float>(first, first + logits.size(1)));
  }
  return result;
}

json rank(const char* path, const char* runs_path, Context& context) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  const ModelConfig config = read_model_config(checkpoint);
  const Llama model(config, WeightReader(checkpoint, config), LinearMode::kF32, context);
  json results = json::array();
  for (const json& run : json::parse(read_text_file(runs_path))) {
    const RankPrompt prompt{run["instruction"].get<Tokens>(),
                            run["documents"].get<std::vector<Tokens>>(),
                            run["query"].get<Tokens>()};
    const RankPacking packing =
        run["packing"] == "padded" ? RankPacking::kPadded : RankPacking::kPacked;
    const BlockRankConfig rank_config{
        .layer = run["layer"].get<int>(),
        .query_pos_offset = run["query_pos_offset"].get<std::int64_t>(),
        .signal_tokens = run["signal_tokens"].get<int>()};
    BlockRanker ranker(model, context, rank_config, {.kv_dtype = DType::kF32, .packing = packing});
    const BlockScores scores = ranker.score(prompt);
    results.push_back(
        {{"scores", scores.scores},
         {"weights", scores.weights},
         {"logits", query_logits(model, prompt, rank_config.query_pos_offset, packing, context)}});
  }
  return results;
}

json config(std::span<char*> paths) {
  json results = json::array();
  for (const char* path : paths) {
    try {
      const Checkpoint checkpoint = Checkpoint::open(path);
      results.push_back(blockrank_json(blockrank_config(read_model_config(checkpoint))));
    } catch (const Error& error) {
      results.push_back({{"error", error.what()}});
    }
  }
  return results;
}

json bm25(const char* runs_path) {
  json results = json::array();
  for (const json& run : json::parse(read_text_file(runs_path))) {
    const auto texts = run["texts"].get<std::vector<std::string>>();
    const Bm25 index(texts,
                     {run["k1"].get<double>(), run["b"].get<double>(), run["floor"].get<double>()});
    json& scores = results.emplace_back(json::array());
    for (const json& query : run["queries"]) {
      scores.push_back({{"scores", index.scores(query.get<std::string>())},
                        {"best", index.best(query.get<std::string>(), texts.size())}});
    }
  }
  return results;
}

}  // namespace

json answer(std::span<char*> arguments) {
  const std::string_view mode = arguments[0];
  if (mode == "bm25") return bm25(arguments[1]);
  if (mode == "config") return config(arguments.subspan(1));
  Runtime runtime(2);
  return rank(arguments[1], arguments[2], runtime.context());
}

}  // namespace perpend::rank_tool
