#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perpend/train/optimizer.h"
#include "perpend/train/training_place.h"

namespace perpend {

// A point of a run from which it can go on to the same end: a folder with state.safetensors (all
// f32: weights and both moments of AdamW) and state.json (where the run stood, and a CRC-32 of the
// tensors' file). Appears whole or not at all.
struct TrainingState {
  TrainingPlace place;
  std::int64_t dataset_size = 0;  // to notice other data
  std::uint64_t seed = 0;
};

// Throws IoError with path and reason.
void save_training_state(const std::string& folder, const TrainingState& state,
                         const std::vector<TrainedTensor>& tensors);

// Writes the saved values into `tensors`, which must be those that were saved. Throws IoError
// naming the file for one that is missing, cut off, changed or of another run; then nothing was
// written.
TrainingState load_training_state(const std::string& folder,
                                  const std::vector<TrainedTensor>& tensors);

// Name of the folder of a step, and the steps that have one, ascending.
std::string state_name(std::int64_t num_steps);
std::vector<std::int64_t> list_states(const std::string& folder);
// Removes the oldest states but the last `keep`, and what killed runs left half written.
void remove_old_states(const std::string& folder, int keep);

}  // namespace perpend
