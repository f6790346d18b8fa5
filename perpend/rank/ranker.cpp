#include "perpend/rank/ranker.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "perpend/core/error.h"

namespace perpend {
namespace {

void check_documents(std::span<const RankDocument> documents) {
  check(!documents.empty(), "rank: the list of documents is empty");
  std::unordered_map<std::string_view, std::size_t> first;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto [known, is_new] = first.emplace(documents[i].id, i);
    check(is_new, concat("rank: the id '", documents[i].id, "' is given twice (documents ",
                         known->second + 1, " and ", i + 1, ")"));
  }
}

BlockRankerOptions block_options(const RankOptions& options) {
  return {.kv_dtype = options.kv_dtype,
          .packing = options.packing,
          .reuse_tokens = options.query_in_instruction ? 0 : options.reuse_tokens};
}

}  // namespace

Ranker::Ranker(const LoadedModel& model, Context& context, const RankOptions& options)
    : options_(options),
      prompter_(model.tokenizer(), model.chat_frame()),
      ranker_(model.network(), context, options.config, block_options(options)) {}

RankPrompt Ranker::prompt(const std::string& query, std::span<const RankDocument> documents,
                          RankResult& result) const {
  RankPrompt prompt{.instruction = prompter_.instruction(query, options_.query_in_instruction),
                    .documents = {},
                    .query = prompter_.query(query)};
  const std::int64_t limit = options_.config.chunk_len;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    RankPrompter::Document document = prompter_.document(documents[i], limit);
    if (document.num_full_tokens > limit) {
      check(options_.long_documents == LongDocuments::kCut,
            concat("rank: document '", documents[i].id, "' has ", document.num_full_tokens,
                   " tokens, the limit is ", limit,
                   "; cut long documents (--cut) or raise the limit (--limit)"));
      result.cut.push_back(i);
    }
    prompt.documents.push_back(std::move(document.tokens));
  }
  return prompt;
}

RankResult Ranker::rank(const std::string& query, std::span<const RankDocument> documents,
                        const RankProgress& progress) {
  check_documents(documents);
  RankResult result;
  RankPrompt prompt = this->prompt(query, documents, result);
  BlockScores scores = ranker_.score(prompt, progress);
  result.scores = std::move(scores.scores);
  result.weights = std::move(scores.weights);
  result.num_reused = ranker_.num_reused();
  result.num_tokens = static_cast<std::int64_t>(prompt.instruction.size() + prompt.query.size());
  for (const auto& tokens : prompt.documents) {
    result.num_tokens += static_cast<std::int64_t>(tokens.size());
  }
  result.tokens = std::move(prompt.documents);
  result.order.resize(documents.size());
  std::iota(result.order.begin(), result.order.end(), std::size_t{0});
  std::stable_sort(result.order.begin(), result.order.end(), [&](std::size_t a, std::size_t b) {
    return result.scores[a] > result.scores[b];
  });
  return result;
}

RankResult rank(const LoadedModel& model, Context& context, const std::string& query,
                std::span<const RankDocument> documents) {
  RankOptions options;
  options.config = blockrank_config(model.config());
  return Ranker(model, context, options).rank(query, documents);
}

}  // namespace perpend
