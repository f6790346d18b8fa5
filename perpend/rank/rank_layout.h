#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/mask.h"
#include "perpend/rank/rank_prompt.h"

namespace perpend {

enum class RankPacking : std::uint8_t {
  kPacked,  // blocks keep their lengths; each begins a page of keys
  kPadded,  // blocks are padded on the left to one length, a multiple of 16: for parity tests
};

// Where the tokens of a ranking prompt lie in one pass: as rows that run, and as places of their
// keys in the cache. The mask speaks of places. A block's numbers do not depend on where it lies or
// on its neighbours, bit for bit, as long as blocks begin pages (kPacked).
struct RankLayout {
  struct Block {
    std::int64_t place = 0;  // of its first key
    std::int64_t size = 0;   // tokens
    Range rows = {};         // of its tokens; empty for a block that does not run
  };

  std::vector<Block> blocks;            // instruction, documents in their order, query
  std::vector<std::int32_t> tokens;     // [rows]
  std::vector<std::int32_t> positions;  // [rows], for the rotary embedding
  std::vector<Range> passes;            // places of the rows, in the order of the rows
  std::int64_t num_places = 0;
  Mask mask;
};

// Positions: t in the instruction of n_0 tokens, n_0 + t in every document, query_pos_offset + t in
// the query block; t counts a block's own tokens. Blocks for which `runs` says no get a place only
// (0: the instruction, 1 ...: documents; the query block always runs; packed only).
RankLayout lay_out(const RankPrompt& prompt, std::int64_t query_pos_offset, RankPacking packing,
                   std::int64_t page_size, const std::function<bool(std::size_t block)>& runs = {});

}  // namespace perpend
