#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <vector>

#include "perpend/models/differentiable_model.h"
#include "perpend/ops/attention_plans.h"
#include "perpend/train/batch_reader.h"
#include "perpend/train/loss.h"
#include "perpend/train/mask_binder.h"
#include "perpend/train/training_place.h"

namespace perpend {

// One batch with what the host has to work out for its passes.
struct PreparedBatch {
  PackedBatch packed;
  std::vector<BatchMasks> layer_masks;  // [num_layers]
  // Of each kind of masks: those that the passes look for, kept for them.
  std::vector<AttentionSchedules> plans;
  double visible_pairs = 0.0;  // of all heads of all layers
};

// What one step of the optimizer reads.
struct PreparedStep {
  std::vector<PreparedBatch> batches;
  std::vector<double> counts;   // [num_losses], over all batches: see Loss
  std::int64_t num_tokens = 0;  // see PackedBatch
  std::int64_t num_read = 0;    // examples since the run began, those of this step included
};

// Reads what a run trains on, step after step: examples are read, changed, packed, given masks and
// planned, all of which is work of the host. The step behind the one that was asked for is prepared
// on a thread of its own meanwhile, one and no more. What a step reads depends on its place alone.
class StepReader {
 public:
  // `layer_masks`: one for each layer of `model`; names in them are labels of the data. Throws
  // InvalidArgument.
  StepReader(const DifferentiableModel& model, BatchReader batches, int accumulation,
             std::vector<WeightedLoss> losses, std::vector<Mask> layer_masks);

  // The step that begins at `place`. Throws what reading, packing, masks and planning throw, when
  // the step is asked for that it is of, and again when that is asked for again.
  PreparedStep next(const TrainingPlace& place);

  std::int64_t dataset_size() const { return batches_.dataset_size(); }

 private:
  struct Begin {
    std::int64_t num_steps = 0;
    std::int64_t num_read = 0;
    friend bool operator==(const Begin&, const Begin&) = default;
  };

  void start(Begin begin);
  PreparedStep prepare(Begin begin);
  PreparedBatch prepare_batch(std::int64_t step);
  void plan(PreparedBatch& batch) const;

  AttentionSpec attention_;
  Device device_;
  int num_q_heads_;
  int num_kv_heads_;
  int accumulation_;
  std::vector<WeightedLoss> losses_;
  MaskBinder masks_;
  BatchReader batches_;
  Begin begin_of_ahead_;
  std::future<PreparedStep> ahead_;  // destroyed first, which waits for the thread
};

}  // namespace perpend
