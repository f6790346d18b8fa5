#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "perpend/models/loaded_model.h"
#include "perpend/rank/block_ranker.h"
#include "perpend/rank/rank_prompt.h"

namespace perpend {

// What becomes of a document with more tokens than the limit.
enum class LongDocuments : std::uint8_t { kRefuse, kCut };

struct RankOptions {
  BlockRankConfig config;  // see blockrank_config(); chunk_len is the limit of a document
  LongDocuments long_documents = LongDocuments::kRefuse;
  // Without it documents can not know the query, which costs precision, and their keys and values
  // are kept for the next query.
  bool query_in_instruction = true;
  RankPacking packing = RankPacking::kPacked;
  DType kv_dtype = DType::kF16;
  std::int64_t reuse_tokens = 1 << 16;  // of documents that are kept, where they can be
};

struct RankResult {
  std::vector<float> scores;       // in the order of the documents; they sum to 1
  std::vector<std::size_t> order;  // best first, equal scores in the order of the list
  std::vector<std::size_t> cut;    // documents that were cut
  // [documents][tokens] of each document's block, and what they carried of its score.
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::vector<float>> weights;
  std::int64_t num_tokens = 0;  // of the whole prompt
  std::size_t num_reused = 0;   // blocks whose keys and values were known
};

// Ranks lists of documents with one model, query after query.
class Ranker {
 public:
  // Borrows `model` and `context`. Throws as BlockRanker and LoadedModel::chat_frame().
  Ranker(const LoadedModel& model, Context& context, const RankOptions& options);

  // Throws InvalidArgument for an empty list, an id that is given twice, a document longer than
  // the limit (unless those are cut), and a query that does not fit.
  RankResult rank(const std::string& query, std::span<const RankDocument> documents,
                  const RankProgress& progress = {});

 private:
  RankPrompt prompt(const std::string& query, std::span<const RankDocument> documents,
                    RankResult& result) const;

  RankOptions options_;
  RankPrompter prompter_;
  BlockRanker ranker_;
};

// One list ranked by a model as its checkpoint says.
RankResult rank(const LoadedModel& model, Context& context, const std::string& query,
                std::span<const RankDocument> documents);

}  // namespace perpend
