#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "perpend/models/language_model.h"
#include "perpend/rank/document_cache.h"
#include "perpend/rank/rank_layout.h"

namespace perpend {

struct BlockRankerOptions {
  DType kv_dtype = DType::kF16;
  RankPacking packing = RankPacking::kPacked;
  // Tokens of documents whose keys and values are kept from call to call; 0: none, and one layer's
  // are alive at a time. They are of use to prompts with the same instruction.
  std::int64_t reuse_tokens = 0;
};

struct BlockScores {
  std::vector<float> scores;  // [documents]; they sum to 1
  // [documents][tokens]: what each token carried of its document's score.
  std::vector<std::vector<float>> weights;
};

using RankProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Ranks the documents of prompts by the attention that the last tokens of the query block pay them
// in one layer (arXiv:2510.05396, section 3): the layers below it run, of that layer the queries of
// those tokens and the keys of the documents; nothing above, no logits.
// The order of documents changes no bit of their scores: they run in an order of their own.
class BlockRanker {
 public:
  // Borrows both. Throws InvalidArgument for a config that does not fit the network.
  BlockRanker(const LanguageModel& network, Context& context, const BlockRankConfig& config,
              const BlockRankerOptions& options);

  // Throws InvalidArgument for a prompt without documents, with an empty block, or whose positions
  // do not fit: n_0 + document <= query_pos_offset, query_pos_offset + query <= context. `progress`
  // hears how many layers are done.
  BlockScores score(const RankPrompt& prompt, const RankProgress& progress = {});

  // Blocks that did not run in the last call, because their keys were known.
  std::size_t num_reused() const { return num_reused_; }

 private:
  struct Pass;

  void check_prompt(const RankPrompt& prompt) const;
  // Lays the prompt out and brings what is known of it into its cache.
  void place(Pass& pass);
  void run(Pass& pass, const RankProgress& progress) const;
  void remember(const Pass& pass);
  BlockScores scored(const Pass& pass) const;
  KvStoreConfig store_config(std::int64_t max_tokens) const;

  const LanguageModel& network_;
  Context& context_;
  BlockRankConfig config_;
  BlockRankerOptions options_;
  std::unique_ptr<DocumentCache> cache_;
  std::vector<std::int32_t> cached_instruction_;
  std::size_t num_reused_ = 0;
};

}  // namespace perpend
