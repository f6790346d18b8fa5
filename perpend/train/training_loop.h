#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "perpend/core/function_ref.h"
#include "perpend/train/evaluation.h"
#include "perpend/train/train_log.h"
#include "perpend/train/trainer.h"

namespace perpend {

struct LoopOptions {
  std::string out;  // folder: log.jsonl, loss.svg, loss.png, states/
  std::int64_t num_steps = 0;
  std::int64_t state_every = 0;  // steps between saved states; 0: only the last
  int keep_states = 2;
  std::int64_t log_every = 1;
  double peak_flops = 0.0;  // of the device, for MFU; 0: not known
  std::uint64_t seed = 0;
  bool resume = false;                    // from the newest state in `out`, if there is one
  std::function<TargetScore()> evaluate;  // none: the run is not evaluated
  std::int64_t evaluate_every = 0;        // steps; 0: only behind the last, where it always is
  double stop_at = 2.0;  // share of exact targets at which an evaluated run has come to its end
};

// Called with each entry of the log, or the last one of a run that was finished already; false ends
// the loop behind a saved state.
using LoopProgress = FunctionRef<bool(const LogEntry& entry)>;

// Steps `trainer` to the end, with a log, states to resume from and a plot of the loss. The state
// behind the last step is always saved. False when `progress` ended it. Throws InvalidArgument when
// `out` holds a run that is not to be resumed and for a loss that is no number, IoError with path
// and reason.
bool run_training(Trainer& trainer, const LoopOptions& options, LoopProgress progress);

}  // namespace perpend
