#pragma once

#include <vector>

#include "perpend/decode/diffusion_options.h"

namespace perpend {

// A CanvasStep that owns its tokens, which are in the order of their positions.
struct RecordedStep {
  explicit RecordedStep(const CanvasStep& step);

  bool denoises;
  Range block;
  Range rows;
  std::int64_t num_keys;
  std::vector<FilledToken> filled;
  std::vector<FilledToken> guesses;
};

}  // namespace perpend
