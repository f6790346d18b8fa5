#include "perpend/train/one_pass_ranking.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "perpend/core/error.h"

namespace perpend {
namespace {

const std::vector<std::int32_t>& list_of(const TrainingSequence& prompt, const std::string& name) {
  const auto found = prompt.lists.find(name);
  check(found != prompt.lists.end(), concat("ranking: the data has no list '", name, "'"));
  return found->second;
}

// The blocks of a prompt. The query block ends with the last signal, in front of the answer.
RankPrompt blocks_of(const TrainingSequence& prompt, std::int32_t last_signal) {
  const auto labels = prompt.labels.find("doc");
  check(labels != prompt.labels.end(), "ranking: the data has no label 'doc'");
  const std::vector<std::int32_t>& blocks = labels->second;
  check(std::is_sorted(blocks.begin(), blocks.end()) && blocks.front() >= 0,
        "ranking: blocks of a prompt must come one after another, from 0 on");
  const std::int32_t last = blocks.back();
  RankPrompt result;
  result.documents.resize(static_cast<std::size_t>(std::max(last - 1, 0)));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::int32_t block = blocks[i];
    if (block == last && static_cast<std::int32_t>(i) > last_signal) break;
    auto& tokens = block == 0      ? result.instruction
                   : block == last ? result.query
                                   : result.documents[static_cast<std::size_t>(block) - 1];
    tokens.push_back(prompt.tokens[i]);
  }
  return result;
}

// Where the query block begins. Throws unless the instruction begins at 0, all documents behind it.
std::int64_t query_position_of(const TrainingSequence& prompt, const RankPrompt& blocks) {
  const auto& label = prompt.labels.at("doc");
  check(prompt.positions.size() == label.size(),
        "ranking: prompts must have the positions of BlockRank");
  std::size_t row = 0;
  const auto check_block = [&](std::size_t size, std::size_t first) {
    for (std::size_t t = 0; t < size; ++t, ++row) {
      check_eq(static_cast<std::size_t>(prompt.positions[row]), first + t,
               concat("ranking: row ", row, " must have the position that BlockRank gives it"));
    }
  };
  check_block(blocks.instruction.size(), 0);
  for (const auto& document : blocks.documents) {
    check_block(document.size(), blocks.instruction.size());
  }
  const std::int32_t first = prompt.positions.at(row);
  check_block(blocks.query.size(), static_cast<std::size_t>(first));
  return first;
}

}  // namespace

OnePassRanking::OnePassRanking(const LanguageModel& network, Context& context, int layer)
    : network_(network), context_(context), layer_(layer) {}

std::vector<float> OnePassRanking::add(const TrainingSequence& prompt) {
  const std::vector<std::int32_t>& signals = list_of(prompt, "signals");
  check(!signals.empty(), "ranking: a prompt without signals");
  for (std::size_t i = 1; i < signals.size(); ++i) {
    check_eq(signals[i], signals[i - 1] + 1, "ranking: signals must be rows in a row");
  }
  const RankPrompt blocks = blocks_of(prompt, signals.back());
  BlockRankConfig config;
  config.layer = layer_;
  config.query_pos_offset = query_position_of(prompt, blocks);
  config.signal_tokens = static_cast<int>(signals.size());
  const bool on_cpu = context_.device.type == DeviceType::kCpu;
  BlockRanker ranker(network_, context_, config, {.kv_dtype = on_cpu ? DType::kF32 : DType::kBF16});
  const auto start = std::chrono::steady_clock::now();
  BlockScores found = ranker.score(blocks);
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
  milliseconds_.push_back(time.count());
  quality_.add(found.scores, list_of(prompt, "positives"));
  return std::move(found.scores);
}

}  // namespace perpend
