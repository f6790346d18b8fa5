#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/models/blockrank_config.h"
#include "perpend/rank/rank_prompt.h"
#include "perpend/train/dataset.h"

namespace perpend {

// A ranking prompt with its answer as an example for the losses: tokens and positions as
// BlockRanker runs them, the answer behind the query block. Label "doc" (the block), lists
// "signals" (rows of the last tokens before the answer) and "positives" (`answers`, from 1),
// weights 1 on the tokens of the answer. Throws InvalidArgument for a prompt that lay_out()
// refuses.
TrainingSequence rank_sequence(const RankPrompt& prompt, std::span<const std::int32_t> answer,
                               std::span<const std::size_t> answers, const BlockRankConfig& config);

}  // namespace perpend
