#pragma once

#include <cstdint>
#include <string_view>

#include "perpend/core/range.h"

namespace perpend {

// What is kept of the keys of a canvas, tokens and masked tokens together, between two steps that
// fill it. Exact are kNone and kBlock, and kSubBlock where a sub-block is a whole block.
enum class CanvasCache {
  kNone,      // nothing: each step computes all rows
  kBlock,     // the keys of finished blocks (Fast-dLLM v2, section 2.5)
  kSubBlock,  // also those of the open block, which wait for the next sub-block (the same)
  kPrefix,    // since the block was opened, all before it (Fast-dLLM v1, section 5.2)
  kDual,      // and all behind it
  kElastic,   // all that have not drifted (models/elastic_model.h), which decides what runs
};

std::string_view name_of(CanvasCache cache);  // "none", "block", ..., "elastic"
// Throws InvalidArgument that lists the names.
CanvasCache parse_canvas_cache(std::string_view name);
// Whether it is for models whose finished tokens keep their keys; all others are for those whose
// every token sees those to come, kNone for both.
bool keeps_finished(CanvasCache cache);
// Whether rows before the block keep what they were when it was opened.
bool keeps_stale_prefix(CanvasCache cache);

// A canvas before a step.
struct CanvasPlace {
  Range block;                  // that is open
  Range sub_block;              // of it, that is being filled
  std::int64_t end = 0;         // of the canvas
  bool begins_masked = false;   // whether the first token of the sub-block is
  bool first_of_block = false;  // whether no step of this block ran before
};

// The rows that a step computes; their keys replace those that are kept, and they see all keys
// below the end of the canvas.
Range rows_of_step(CanvasCache cache, const CanvasPlace& place);

}  // namespace perpend
