#include "perpend/rank/embedding_ranker.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {

bool EmbeddingRanker::takes(const std::string& path) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  if (checkpoint.kind() != Checkpoint::Kind::kHuggingFace) return false;
  const auto config = parse_json_object(checkpoint.config_json(), path + "/config.json");
  return config.value("model_type", nlohmann::json()) == "bert";
}

std::vector<float> EmbeddingRanker::scores(const std::string& query,
                                           std::span<const RankDocument> documents) {
  std::vector<std::string> texts = {query};
  std::vector<const std::string*> fresh;
  for (const RankDocument& document : documents) {
    if (known_.contains(document.id)) continue;
    texts.push_back(concat(document.id, " ", document.title, " ", document.text));
    fresh.push_back(&document.id);
  }
  const torch::Tensor embedded = embedder_.embed(texts, context_).clone();
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    known_.emplace(*fresh[i], embedded[static_cast<std::int64_t>(i) + 1]);
  }
  std::vector<torch::Tensor> rows;
  for (const RankDocument& document : documents) rows.push_back(known_.at(document.id));
  const torch::Tensor cosines = at::matmul(at::stack(rows), embedded[0]).contiguous();
  return {cosines.data_ptr<float>(), cosines.data_ptr<float>() + cosines.numel()};
}

}  // namespace perpend
