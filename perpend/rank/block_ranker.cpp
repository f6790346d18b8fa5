#include "perpend/rank/block_ranker.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "perpend/core/error.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr int kPageSize = 64;

using Tokens = std::vector<std::int32_t>;

void append(Range rows, std::vector<std::int32_t>& to) {
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    to.push_back(static_cast<std::int32_t>(row));
  }
}

// Documents by length and tokens: an order that the caller's does not change.
std::vector<std::size_t> order_of(const std::vector<Tokens>& documents) {
  std::vector<std::size_t> order(documents.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const Tokens& x = documents[a];
    const Tokens& y = documents[b];
    return x.size() != y.size() ? x.size() < y.size() : x < y;
  });
  return order;
}

RankPrompt reordered(const RankPrompt& prompt, const std::vector<std::size_t>& order) {
  RankPrompt result{.instruction = prompt.instruction, .documents = {}, .query = prompt.query};
  for (const std::size_t index : order) result.documents.push_back(prompt.documents[index]);
  return result;
}

}  // namespace

// One call: its prompt in the order of the pass, where it lies, and what came of it.
struct BlockRanker::Pass {
  std::vector<std::size_t> order;  // of documents
  RankPrompt prompt;
  std::vector<const DocumentCache::Entry*> known;  // [1 + documents], null for what must run
  RankLayout layout;
  std::unique_ptr<KvStore> store;
  std::unique_ptr<KvSequence> sequence;
  std::vector<torch::Tensor> keys;  // [documents], each [tokens, num_kv_heads, head_dim] f32
  torch::Tensor q;                  // [signal_tokens, num_q_heads, head_dim] f32
};

BlockRanker::BlockRanker(const LanguageModel& network, Context& context,
                         const BlockRankConfig& config, const BlockRankerOptions& options)
    : network_(network), context_(context), config_(config), options_(options) {
  const ModelConfig& model = network.config();
  check(config.layer >= 0 && config.layer < model.num_layers,
        concat("rank: layer must be in [0, ", model.num_layers, ") (", config.layer, ")"));
  check(config.query_pos_offset > 0 && config.query_pos_offset < model.context_length,
        concat("rank: query_pos_offset must be in [1, ", model.context_length, ") (",
               config.query_pos_offset, ")"));
  check(config.signal_tokens > 0,
        concat("rank: signal_tokens must be positive (", config.signal_tokens, ")"));
  check(options.reuse_tokens == 0 || options.packing == RankPacking::kPacked,
        "rank: only packed documents can be reused");
  if (options.reuse_tokens > 0 && config.layer > 0) {
    cache_ = std::make_unique<DocumentCache>(store_config(options.reuse_tokens));
  }
}

KvStoreConfig BlockRanker::store_config(std::int64_t max_tokens) const {
  const ModelConfig& model = network_.config();
  return {.num_layers = options_.reuse_tokens > 0 ? std::max(1, config_.layer) : 1,
          .num_kv_heads = model.num_kv_heads,
          .head_dim = model.head_dim,
          .page_size = kPageSize,
          .dtype = options_.kv_dtype,
          .max_tokens = max_tokens,
          .device = context_.device};
}

void BlockRanker::check_prompt(const RankPrompt& prompt) const {
  check(!prompt.documents.empty(), "rank: the list of documents is empty");
  check(!prompt.instruction.empty(), "rank: the instruction has no token");
  check(std::ssize(prompt.query) >= config_.signal_tokens,
        concat("rank: the query block has ", prompt.query.size(), " tokens, ",
               config_.signal_tokens, " carry the score"));
  const std::int64_t context_length = network_.config().context_length;
  check(config_.query_pos_offset + std::ssize(prompt.query) <= context_length,
        concat("rank: the query block has ", prompt.query.size(), " tokens from position ",
               config_.query_pos_offset, " on, the context ends at ", context_length));
  check(std::ssize(prompt.instruction) < config_.query_pos_offset,
        concat("rank: the instruction has ", prompt.instruction.size(),
               " tokens with the query in it, of which ", config_.query_pos_offset,
               " and a document must come before the query's block; shorten the query"));
  for (std::size_t i = 0; i < prompt.documents.size(); ++i) {
    const std::int64_t end = std::ssize(prompt.instruction) + std::ssize(prompt.documents[i]);
    check(!prompt.documents[i].empty(), concat("rank: document ", i, " has no token"));
    check(end <= config_.query_pos_offset,
          concat("rank: instruction and document ", i, " have ", end,
                 " tokens, the query begins at position ", config_.query_pos_offset));
  }
}

BlockScores BlockRanker::score(const RankPrompt& prompt, const RankProgress& progress) {
  check_prompt(prompt);
  const DeviceScope device(context_);
  Pass pass;
  pass.order = order_of(prompt.documents);
  pass.prompt = reordered(prompt, pass.order);
  if (cache_ && cached_instruction_ != prompt.instruction) {
    cache_->clear();
    cached_instruction_ = prompt.instruction;
  }
  place(pass);
  run(pass, progress);
  if (cache_) remember(pass);
  return scored(pass);
}

void BlockRanker::place(Pass& pass) {
  pass.known.assign(pass.prompt.documents.size() + 1, nullptr);
  for (std::size_t block = 0; cache_ && block < pass.known.size(); ++block) {
    pass.known[block] =
        cache_->find(block == 0 ? pass.prompt.instruction : pass.prompt.documents[block - 1]);
  }
  num_reused_ = pass.known.size() -
                static_cast<std::size_t>(std::count(pass.known.begin(), pass.known.end(), nullptr));
  pass.layout = lay_out(pass.prompt, config_.query_pos_offset, options_.packing, kPageSize,
                        [&](std::size_t block) { return pass.known[block] == nullptr; });
  pass.store = std::make_unique<KvStore>(store_config(pass.layout.num_places));
  pass.sequence = std::make_unique<KvSequence>(*pass.store);
  if (!pass.sequence->append(pass.layout.num_places)) {
    bug("rank: the store is sized for its prompt");
  }
  for (std::size_t block = 0; block < pass.known.size(); ++block) {
    if (pass.known[block] == nullptr) continue;
    const RankLayout::Block& placed = pass.layout.blocks[block];
    copy_pages(pass.known[block]->kv, {0, placed.size}, *pass.sequence, placed.place);
  }
}

void BlockRanker::run(Pass& pass, const RankProgress& progress) const {
  const RankLayout& layout = pass.layout;
  std::vector<std::int32_t> k_rows;
  for (std::size_t i = 0; i < pass.prompt.documents.size(); ++i)
    append(layout.blocks[i + 1].rows, k_rows);
  std::vector<std::int32_t> q_rows;
  const std::int64_t end = layout.blocks.back().rows.end;
  append({end - config_.signal_tokens, end}, q_rows);
  std::vector<KvRows> sequences;
  for (const Range& places : layout.passes) {
    sequences.push_back({pass.sequence.get(), places.begin, places.size()});
  }
  const std::vector<Mask> masks(static_cast<std::size_t>(config_.layer), layout.mask);
  HeadRowsOf wanted{.layer = config_.layer, .q_rows = q_rows, .k_rows = k_rows};
  if (progress) {
    wanted.progress = [&](int num_layers) { progress(num_layers, config_.layer); };
  }
  const TurnedHeads heads = network_.heads({.tokens = layout.tokens,
                                            .sequences = sequences,
                                            .layer_masks = masks,
                                            .logit_rows = {},
                                            .positions = layout.positions},
                                           wanted, context_);
  pass.q = heads.q.clone();
  std::int64_t row = 0;
  for (std::size_t i = 0; i < pass.prompt.documents.size(); ++i) {
    const DocumentCache::Entry* known = pass.known[i + 1];
    const std::int64_t count = layout.blocks[i + 1].rows.size();
    pass.keys.push_back(known != nullptr ? known->keys : heads.k.narrow(0, row, count).clone());
    row += count;
  }
}

void BlockRanker::remember(const Pass& pass) {
  if (cache_->find(pass.prompt.instruction) == nullptr) {
    cache_->add(pass.prompt.instruction, *pass.sequence, 0, torch::empty({0}));
  }
  for (std::size_t i = 0; i < pass.keys.size(); ++i) {
    const Tokens& tokens = pass.prompt.documents[i];
    if (cache_->find(tokens) != nullptr) continue;
    cache_->add(tokens, *pass.sequence, pass.layout.blocks[i + 1].place, pass.keys[i]);
  }
}

BlockScores BlockRanker::scored(const Pass& pass) const {
  std::vector<std::int32_t> indptr = {0};
  for (const torch::Tensor& keys : pass.keys) {
    indptr.push_back(indptr.back() + static_cast<std::int32_t>(keys.size(0)));
  }
  const torch::Tensor k = torch::cat(pass.keys);
  const torch::Tensor ends = torch::tensor(indptr, torch::kInt32).to(k.device());
  const auto f32 = torch::dtype(torch::kFloat32).device(k.device());
  const torch::Tensor alpha = torch::empty({pass.q.size(0), pass.q.size(1), k.size(0)}, f32);
  const torch::Tensor scores = torch::empty({static_cast<std::int64_t>(pass.keys.size())}, f32);
  require(context_.kernels->fused.block_scores, "block_scores", *context_.kernels)(
      {.q = view_of(pass.q),
       .k = view_of(k),
       .indptr = view_of(ends),
       .alpha = view_of(alpha),
       .scores = view_of(scores)},
      context_.stream);
  const torch::Tensor weights = alpha.mean(torch::IntArrayRef({0, 1})).cpu();
  const torch::Tensor found = scores.cpu();
  BlockScores result;
  result.scores.resize(pass.keys.size());
  result.weights.resize(pass.keys.size());
  for (std::size_t i = 0; i < pass.keys.size(); ++i) {
    const float* first = weights.data_ptr<float>();
    result.scores[pass.order[i]] = found.data_ptr<float>()[i];
    result.weights[pass.order[i]].assign(first + indptr[i], first + indptr[i + 1]);
  }
  return result;
}

}  // namespace perpend
