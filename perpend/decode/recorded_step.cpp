#include "perpend/decode/recorded_step.h"

#include <algorithm>
#include <span>

namespace perpend {
namespace {

std::vector<FilledToken> by_position(std::span<const FilledToken> tokens) {
  std::vector<FilledToken> sorted(tokens.begin(), tokens.end());
  std::ranges::sort(sorted, {}, &FilledToken::position);
  return sorted;
}

}  // namespace

RecordedStep::RecordedStep(const CanvasStep& step)
    : denoises(step.denoises),
      block(step.block),
      rows(step.rows),
      num_keys(step.num_keys),
      filled(by_position(step.filled)),
      guesses(by_position(step.guesses)) {}

}  // namespace perpend
