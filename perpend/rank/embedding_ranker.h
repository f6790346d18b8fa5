#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "perpend/models/bert.h"
#include "perpend/rank/rank_prompt.h"

namespace perpend {

// Ranks by the cosines of sentence embeddings, query after query; each document is embedded once.
// What a ranker of prompts is measured against.
class EmbeddingRanker {
 public:
  // Whether `path` is a folder of such an encoder (model_type "bert").
  static bool takes(const std::string& path);

  // Borrows `context`. Throws as TextEmbedder.
  EmbeddingRanker(const std::string& path, Context& context)
      : context_(context), embedder_(path, context) {}

  // [documents] cosines of the query with id, title and text of each. Documents with the same id
  // are taken for the same.
  std::vector<float> scores(const std::string& query, std::span<const RankDocument> documents);

 private:
  Context& context_;
  TextEmbedder embedder_;
  std::unordered_map<std::string, torch::Tensor> known_;
};

}  // namespace perpend
