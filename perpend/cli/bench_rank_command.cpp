#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <numeric>
#include <optional>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/options.h"
#include "perpend/core/random.h"
#include "perpend/models/llama.h"
#include "perpend/models/named_shapes.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/device_choice.h"
#include "perpend/nn/runtime.h"
#include "perpend/rank/block_ranker.h"
#include "perpend/rank/rank_cost.h"

namespace perpend {
namespace {

constexpr std::uint64_t kTokenSeed = 1;

struct BenchRank {
  std::string shape = "smollm2-135m";
  std::string device = "auto";
  std::string docs = "10,20,50";
  std::int64_t tokens = 160;  // of each block, or the most of a ragged document
  std::int64_t mean = 0;      // of ragged documents; 0: all as long as `tokens`
  std::int64_t deviation = 30;
  int reps = 5;
  int warm_ups = 2;
  int threads = 0;
  bool causal = false;
  bool padded = false;
  bool json = false;

  void run() const;
  std::vector<std::int64_t> counts() const;
  RankPrompt prompt(std::int64_t num_documents, std::int64_t vocab_size) const;
};

struct RankTimes {
  std::int64_t num_documents = 0;
  std::int64_t num_tokens = 0;
  RankCost cost;
  double rank_ms = 0;    // median
  double spread_ms = 0;  // between the fastest and the slowest
  std::optional<double> causal_ms;
};

std::vector<std::int64_t> BenchRank::counts() const {
  std::vector<std::int64_t> counts;
  std::istringstream list(docs);
  for (std::string item; std::getline(list, item, ',');) {
    std::int64_t count = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), count);
    check(error == std::errc() && end == item.data() + item.size() && count > 0 && count <= 4096,
          concat("bench rank: --docs: expected numbers from 1 to 4096, found '", item, "'"));
    counts.push_back(count);
  }
  check(!counts.empty(), "bench rank: --docs: expected numbers such as 10,20,50");
  return counts;
}

// Random tokens; lengths of ragged documents are normal, clipped to [1, tokens].
RankPrompt BenchRank::prompt(std::int64_t num_documents, std::int64_t vocab_size) const {
  Random random(kTokenSeed);
  const auto block = [&](std::int64_t length) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
    for (auto& id : ids) {
      id = static_cast<std::int32_t>(random.next_below(static_cast<std::uint64_t>(vocab_size)));
    }
    return ids;
  };
  RankPrompt prompt{.instruction = block(tokens), .documents = {}, .query = block(tokens)};
  for (std::int64_t i = 0; i < num_documents; ++i) {
    // The sum of twelve uniform numbers is as good as normal (variance 1).
    double normal = -6;
    for (int draw = 0; draw < 12; ++draw) normal += random.next_double();
    const auto ragged = static_cast<std::int64_t>(
        std::lround(static_cast<double>(mean) + normal * static_cast<double>(deviation)));
    prompt.documents.push_back(
        block(mean == 0 ? tokens : std::clamp<std::int64_t>(ragged, 1, tokens)));
  }
  return prompt;
}

double milliseconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// One causal pass over all tokens of the prompt through all layers, with ordinary positions and the
// logits of its last token: what ranking by decoding would begin with.
class CausalPass {
 public:
  CausalPass(const LanguageModel& network, Context& context, const RankPrompt& prompt,
             DType kv_dtype)
      : network_(network),
        context_(context),
        tokens_(prompt.instruction),
        masks_(static_cast<std::size_t>(network.config().num_layers), Mask::causal()) {
    for (const auto& document : prompt.documents) {
      tokens_.insert(tokens_.end(), document.begin(), document.end());
    }
    tokens_.insert(tokens_.end(), prompt.query.begin(), prompt.query.end());
    const ModelConfig& config = network.config();
    const auto length = static_cast<std::int64_t>(tokens_.size());
    store_.emplace(KvStoreConfig{.num_layers = config.num_layers,
                                 .num_kv_heads = config.num_kv_heads,
                                 .head_dim = config.head_dim,
                                 .dtype = kv_dtype,
                                 .max_tokens = length,
                                 .device = context.device});
    sequence_.emplace(*store_);
    if (!sequence_->append(length)) bug("bench rank: the store is sized for its prompt");
  }

  void run() {
    const auto length = static_cast<std::int64_t>(tokens_.size());
    const KvRows rows{&*sequence_, 0, length};
    const auto last = static_cast<std::int32_t>(length - 1);
    const torch::Tensor logits =
        network_.forward({tokens_, {&rows, 1}, masks_, {&last, 1}}, context_);
    if (context_.torch_stream) context_.torch_stream->synchronize();
  }

 private:
  const LanguageModel& network_;
  Context& context_;
  std::vector<std::int32_t> tokens_;
  std::vector<Mask> masks_;
  std::optional<KvStore> store_;
  std::optional<KvSequence> sequence_;
};

std::vector<double> times_of(int warm_ups, int reps, const std::function<void()>& work) {
  for (int i = 0; i < warm_ups; ++i) work();
  std::vector<double> times;
  for (int i = 0; i < reps; ++i) times.push_back(milliseconds_of(work));
  return times;
}

// The share of the variance of rank_ms that a straight line over the documents explains.
double linear_r2(const std::vector<RankTimes>& all) {
  const auto count = static_cast<double>(all.size());
  double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
  for (const RankTimes& times : all) {
    const auto n = static_cast<double>(times.num_documents);
    x += n;
    y += times.rank_ms;
    xx += n * n;
    xy += n * times.rank_ms;
    yy += times.rank_ms * times.rank_ms;
  }
  const double covariance = count * xy - x * y;
  return covariance * covariance / ((count * xx - x * x) * (count * yy - y * y));
}

nlohmann::json object_of(const RankTimes& times) {
  nlohmann::json object = {{"docs", times.num_documents},
                           {"tokens", times.num_tokens},
                           {"rank_ms", times.rank_ms},
                           {"spread_ms", times.spread_ms},
                           {"rank_flops", times.cost.rank_flops()},
                           {"rank_tflops", times.cost.rank_flops() / times.rank_ms / 1e9}};
  if (times.causal_ms) {
    object["causal_ms"] = *times.causal_ms;
    object["causal_tflops"] = times.cost.causal_flops() / *times.causal_ms / 1e9;
    object["causal_over_rank"] = *times.causal_ms / times.rank_ms;
  }
  return object;
}

void print(const RankTimes& times) {
  fmt::print("{:>5} documents {:>7} tokens  rank {:>9.2f} ms (spread {:.2f}) {:>6.1f} TFLOP/s",
             times.num_documents, times.num_tokens, times.rank_ms, times.spread_ms,
             times.cost.rank_flops() / times.rank_ms / 1e9);
  if (times.causal_ms) {
    fmt::print("  causal {:>9.2f} ms {:>6.1f} TFLOP/s  {:.2f} times", *times.causal_ms,
               times.cost.causal_flops() / *times.causal_ms / 1e9,
               *times.causal_ms / times.rank_ms);
  }
  fmt::print("\n");
}

void BenchRank::run() const {
  check(tokens >= 16 && reps > 0, "bench rank: --tokens must be at least 16, --reps positive");
  std::optional<ModelConfig> config = named_shape(shape);
  check(config.has_value(),
        concat("bench rank: --shape: expected ", known_shapes(), ", found ", shape));
  const BlockRankConfig rank_config = blockrank_config(*config);
  const std::vector<std::int64_t> counts = this->counts();
  // The causal pass gives every token a position of its own.
  const std::int64_t most = *std::max_element(counts.begin(), counts.end()) + 2;
  if (causal) config->context_length = std::max(config->context_length, most * tokens);

  Runtime runtime(choose_device(device), threads);
  Context& context = runtime.context();
  const bool on_cpu = context.device.type == DeviceType::kCpu;
  const Llama network(*config, RandomWeights(*config, kTokenSeed),
                      on_cpu ? torch::kFloat32 : torch::kBFloat16, context);
  const DType kv_dtype = on_cpu ? DType::kF16 : DType::kBF16;
  BlockRanker ranker(
      network, context, rank_config,
      {.kv_dtype = kv_dtype, .packing = padded ? RankPacking::kPadded : RankPacking::kPacked});
  std::vector<RankTimes> all;
  for (const std::int64_t count : counts) {
    const RankPrompt prompt = this->prompt(count, config->vocab_size);
    RankLengths lengths{tokens, {}, tokens};
    for (const auto& document : prompt.documents) {
      lengths.documents.push_back(static_cast<std::int64_t>(document.size()));
    }
    RankTimes& times = all.emplace_back();
    times.num_documents = count;
    times.num_tokens = lengths.num_tokens();
    times.cost = rank_cost(*config, lengths, rank_config.layer);
    const auto ranked = times_of(warm_ups, reps, [&] { ranker.score(prompt); });
    const auto [fastest, slowest] = std::minmax_element(ranked.begin(), ranked.end());
    times.rank_ms = median(ranked);
    times.spread_ms = *slowest - *fastest;
    if (causal) {
      CausalPass pass(network, context, prompt, kv_dtype);
      times.causal_ms = median(times_of(1, std::min(reps, 3), [&] { pass.run(); }));
    }
    if (json) {
      std::cout << object_of(times).dump() << std::endl;
    } else {
      print(times);
    }
  }
  if (!json && all.size() > 2) fmt::print("a straight line explains {:.6f}\n", linear_r2(all));
}

}  // namespace

void add_bench_rank_command(CLI::App& bench) {
  auto command = std::make_shared<BenchRank>();
  CLI::App& sub = *bench.add_subcommand(
      "rank", "Ranking of documents by a model of random weights, and a causal pass over them");
  add_option(sub, "--shape", command->shape, known_shapes());
  add_option(sub, "--device", command->device, "cpu, cuda, cuda:N or auto");
  add_option(sub, "--docs", command->docs, "Numbers of documents");
  add_option(sub, "--tokens", command->tokens, "Tokens of a block");
  add_option(sub, "--mean", command->mean,
             "Mean length of ragged documents of at most --tokens; 0: all equally long");
  add_option(sub, "--deviation", command->deviation, "Standard deviation of those lengths");
  add_option(sub, "--reps", command->reps, "Runs of which the median is taken");
  add_option(sub, "--warm-ups", command->warm_ups, "Runs before them");
  add_option(sub, "--threads", command->threads, "Host threads; 0: one for each core");
  add_flag(sub, "--causal", command->causal,
           "Also time one causal pass over the same tokens through all layers");
  add_flag(sub, "--padded", command->padded, "Pad all blocks to the longest, a multiple of 16");
  add_flag(sub, "--json", command->json, "Print one JSON object a line");
  sub.footer(
      "Examples:\n"
      "  perpend bench rank --shape mistral-7b --docs 10,20,50,100,200,500 --causal --reps 20\n"
      "  perpend bench rank --shape mistral-7b --docs 500 --mean 100");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
