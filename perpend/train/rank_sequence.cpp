#include "perpend/train/rank_sequence.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/rank/rank_layout.h"

namespace perpend {

TrainingSequence rank_sequence(const RankPrompt& prompt, std::span<const std::int32_t> answer,
                               std::span<const std::size_t> answers,
                               const BlockRankConfig& config) {
  check(static_cast<int>(prompt.query.size()) >= config.signal_tokens,
        "rank sequence: the query block has fewer tokens than carry the score");
  RankPrompt with_answer = prompt;
  with_answer.query.insert(with_answer.query.end(), answer.begin(), answer.end());
  // Blocks one after another, without the places between pages.
  const RankLayout layout =
      lay_out(with_answer, config.query_pos_offset, RankPacking::kPacked, /*page_size=*/1);
  TrainingSequence sequence;
  sequence.tokens = layout.tokens;
  sequence.positions = layout.positions;
  std::vector<std::int32_t>& blocks = sequence.labels["doc"];
  for (std::size_t block = 0; block < layout.blocks.size(); ++block) {
    blocks.insert(blocks.end(), static_cast<std::size_t>(layout.blocks[block].size),
                  static_cast<std::int32_t>(block));
  }
  const std::size_t answer_begin = sequence.tokens.size() - answer.size();
  sequence.weights.assign(sequence.tokens.size(), 0.0F);
  std::fill(sequence.weights.begin() + static_cast<std::ptrdiff_t>(answer_begin),
            sequence.weights.end(), 1.0F);
  for (int i = config.signal_tokens; i > 0; --i) {
    sequence.lists["signals"].push_back(static_cast<std::int32_t>(answer_begin) - i);
  }
  std::vector<std::int32_t>& positives = sequence.lists["positives"];
  for (const std::size_t document : answers) {
    positives.push_back(static_cast<std::int32_t>(document) + 1);
  }
  return sequence;
}

}  // namespace perpend
