#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <numeric>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/bench_options.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/rank_passes.h"
#include "perpend/core/random.h"
#include "perpend/models/llama.h"
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
  std::int64_t decoded = 5;
  bool causal = false;
  bool block_mask = false;
  bool padded = false;
  bool json = false;

  void run() const;
  RankPrompt prompt(std::int64_t num_documents, std::int64_t vocab_size, std::uint64_t seed) const;
};

// Medians.
struct RankTimes {
  std::int64_t num_documents = 0;
  std::int64_t num_tokens = 0;
  RankCost cost;
  double rank_ms = 0;
  double spread_ms = 0;            // between the fastest and the slowest
  std::optional<double> fresh_ms;  // of prompts of other lengths each time, planned anew
  std::optional<AnswerPass::Times> causal;
  std::optional<AnswerPass::Times> block;
};

// Random tokens; lengths of ragged documents are normal, clipped to [1, tokens].
RankPrompt BenchRank::prompt(std::int64_t num_documents, std::int64_t vocab_size,
                             std::uint64_t seed) const {
  Random random(seed);
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

std::vector<double> times_of(int warm_ups, int reps, const std::function<void()>& work) {
  for (int i = 0; i < warm_ups; ++i) work();
  std::vector<double> times;
  for (int i = 0; i < reps; ++i) times.push_back(milliseconds_of(work));
  return times;
}

// The straight line through times over numbers of documents, and the share of their variance that
// it explains.
struct Line {
  double ms = 0;  // at no document
  double ms_per_document = 0;
  double r2 = 0;
};

Line line_through(const std::vector<RankTimes>& all) {
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
  const double variance = count * xx - x * x;
  const double slope = covariance / variance;
  return {.ms = (y - slope * x) / count,
          .ms_per_document = slope,
          .r2 = covariance * covariance / (variance * (count * yy - y * y))};
}

void add_answer(nlohmann::json& object, const std::string& name, const AnswerPass::Times& answer,
                double flops, double rank_ms) {
  object[name + "_ms"] = answer.total_ms();
  object[name + "_prefill_ms"] = answer.prefill_ms;
  object[name + "_decode_ms"] = answer.decode_ms;
  object[name + "_tflops"] = flops / answer.prefill_ms / 1e9;
  object[name + "_over_rank"] = answer.total_ms() / rank_ms;
}

nlohmann::json object_of(const RankTimes& times) {
  nlohmann::json object = {{"docs", times.num_documents},
                           {"tokens", times.num_tokens},
                           {"rank_ms", times.rank_ms},
                           {"spread_ms", times.spread_ms},
                           {"rank_flops", times.cost.rank_flops()},
                           {"rank_tflops", times.cost.rank_flops() / times.rank_ms / 1e9}};
  if (times.fresh_ms) object["fresh_ms"] = *times.fresh_ms;
  if (times.causal) {
    add_answer(object, "causal", *times.causal, times.cost.causal_flops(), times.rank_ms);
  }
  if (times.block) {
    add_answer(object, "block", *times.block, times.cost.block_flops(), times.rank_ms);
  }
  return object;
}

void print_answer(std::string_view name, const std::optional<AnswerPass::Times>& answer,
                  double flops, double rank_ms) {
  if (!answer) return;
  fmt::print("  {} {:.2f} ms ({:.2f} of decoding, {:.1f} TFLOP/s before) {:.2f} times", name,
             answer->total_ms(), answer->decode_ms, flops / answer->prefill_ms / 1e9,
             answer->total_ms() / rank_ms);
}

void print(const RankTimes& times) {
  fmt::print("{:>5} documents {:>7} tokens  rank {:>9.2f} ms (spread {:.2f}) {:>6.1f} TFLOP/s",
             times.num_documents, times.num_tokens, times.rank_ms, times.spread_ms,
             times.cost.rank_flops() / times.rank_ms / 1e9);
  if (times.fresh_ms) fmt::print("  other lengths {:.2f} ms", *times.fresh_ms);
  print_answer("causal", times.causal, times.cost.causal_flops(), times.rank_ms);
  print_answer("block", times.block, times.cost.block_flops(), times.rank_ms);
  fmt::print("\n");
}

// Times rankings by one network.
class RankTimer {
 public:
  RankTimer(const BenchRank& bench, const LanguageModel& network, Context& context,
            const BlockRankConfig& config)
      : bench_(bench),
        network_(network),
        context_(context),
        config_(config),
        kv_dtype_(context.device.type == DeviceType::kCpu ? DType::kF16 : DType::kBF16),
        ranker_(network, context, config, {.kv_dtype = kv_dtype_, .packing = packing()}) {}

  RankTimes times(std::int64_t num_documents) {
    const RankPrompt prompt = this->prompt(num_documents, kTokenSeed);
    RankLengths lengths{bench_.tokens, {}, bench_.tokens};
    for (const auto& document : prompt.documents) {
      lengths.documents.push_back(static_cast<std::int64_t>(document.size()));
    }
    RankTimes times;
    times.num_documents = num_documents;
    times.num_tokens = lengths.num_tokens();
    times.cost = rank_cost(network_.config(), lengths, config_.layer, config_.signal_tokens);
    const auto ranked = times_of(bench_.warm_ups, bench_.reps, [&] { ranker_.score(prompt); });
    const auto [fastest, slowest] = std::minmax_element(ranked.begin(), ranked.end());
    times.rank_ms = median(ranked);
    times.spread_ms = *slowest - *fastest;
    if (bench_.mean > 0) times.fresh_ms = fresh_ms(num_documents);
    if (bench_.causal) times.causal = answer_times(causal_layout(prompt));
    if (bench_.block_mask) {
      times.block = answer_times(
          lay_out(prompt, config_.query_pos_offset, packing(), KvStoreConfig{}.page_size));
    }
    return times;
  }

 private:
  RankPacking packing() const {
    return bench_.padded ? RankPacking::kPadded : RankPacking::kPacked;
  }
  RankPrompt prompt(std::int64_t num_documents, std::uint64_t seed) const {
    return bench_.prompt(num_documents, network_.config().vocab_size, seed);
  }

  double fresh_ms(std::int64_t num_documents) {
    std::vector<double> times;
    for (int i = 0; i < bench_.reps; ++i) {
      const auto seed = kTokenSeed + 1 + static_cast<std::uint64_t>(i);
      const RankPrompt prompt = this->prompt(num_documents, seed);
      times.push_back(milliseconds_of([&] { ranker_.score(prompt); }));
    }
    return median(times);
  }

  // At most three runs are timed: one takes longer than a ranking.
  AnswerPass::Times answer_times(RankLayout layout) {
    AnswerPass pass(network_, context_, std::move(layout), bench_.decoded, kv_dtype_);
    std::vector<double> prefill;
    std::vector<double> decode;
    pass.run();
    for (int i = 0; i < std::min(bench_.reps, 3); ++i) {
      const AnswerPass::Times times = pass.run();
      prefill.push_back(times.prefill_ms);
      decode.push_back(times.decode_ms);
    }
    return {median(prefill), median(decode)};
  }

  const BenchRank& bench_;
  const LanguageModel& network_;
  Context& context_;
  BlockRankConfig config_;
  DType kv_dtype_;
  BlockRanker ranker_;
};

void print_line(const Line& line, bool as_json) {
  if (as_json) {
    const nlohmann::json object = {
        {"fit", {{"ms", line.ms}, {"ms_per_document", line.ms_per_document}, {"r2", line.r2}}}};
    std::cout << object.dump() << std::endl;
    return;
  }
  fmt::print("rank = {:.2f} ms + {:.4f} ms a document, which explains {:.6f}\n", line.ms,
             line.ms_per_document, line.r2);
}

void BenchRank::run() const {
  check(tokens >= 16 && reps > 0, "bench rank: --tokens must be at least 16, --reps positive");
  check(decoded >= 0, "bench rank: --decode must not be negative");
  const auto counts = number_list<std::int64_t>("rank: --docs", docs, 1, 4096);
  // The causal pass gives every token a position of its own.
  const std::int64_t most = *std::max_element(counts.begin(), counts.end()) + 2;
  const ModelConfig config = bench_shape("rank", shape, causal ? most * tokens + decoded : 0);
  const BlockRankConfig rank_config = blockrank_config(config);

  Runtime runtime(choose_device(device), threads);
  Context& context = runtime.context();
  const bool on_cpu = context.device.type == DeviceType::kCpu;
  const Llama network(config, RandomWeights(config, kTokenSeed),
                      on_cpu ? torch::kFloat32 : torch::kBFloat16, context);
  RankTimer timer(*this, network, context, rank_config);
  std::vector<RankTimes> all;
  for (const std::int64_t count : counts) {
    all.push_back(timer.times(count));
    if (json) {
      std::cout << object_of(all.back()).dump() << std::endl;
    } else {
      print(all.back());
    }
  }
  if (all.size() > 2) print_line(line_through(all), json);
}

}  // namespace

void add_bench_rank_command(CLI::App& bench) {
  auto command = std::make_shared<BenchRank>();
  CLI::App& sub = *bench.add_subcommand(
      "rank", "Ranking of documents by a model of random weights, and by decoding an answer");
  add_shape_options(sub, command->shape, command->device, command->threads);
  add_option(sub, "--docs", command->docs, "Numbers of documents");
  add_option(sub, "--tokens", command->tokens, "Tokens of a block");
  add_option(sub, "--mean", command->mean,
             "Mean length of ragged documents of at most --tokens; 0: all equally long");
  add_option(sub, "--deviation", command->deviation, "Standard deviation of those lengths");
  add_option(sub, "--reps", command->reps, "Runs of which the median is taken");
  add_option(sub, "--warm-ups", command->warm_ups, "Runs before them");
  add_flag(sub, "--causal", command->causal,
           "Also time a causal pass over the same tokens through all layers, and decoding");
  add_flag(sub, "--block", command->block_mask,
           "Also time a pass under the block mask through all layers, and decoding");
  add_option(sub, "--decode", command->decoded, "Tokens that are decoded behind those passes");
  add_flag(sub, "--padded", command->padded, "Pad all blocks to the longest, a multiple of 16");
  add_flag(sub, "--json", command->json, "Print one JSON object a line, last the straight line");
  sub.footer(
      "Examples:\n"
      "  perpend bench rank --shape mistral-7b --docs 10,20,50,100,200,500 --causal --block --reps "
      "20\n"
      "  perpend bench rank --shape mistral-7b --docs 500 --mean 100");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
