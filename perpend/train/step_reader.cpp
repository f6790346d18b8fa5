#include "perpend/train/step_reader.h"

#include <map>
#include <utility>

#include <c10/core/DeviceGuard.h>

#include "perpend/core/error.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

// Attention runs in the type of the matrices, of which the embedding is one.
TensorView matrix_of(const DifferentiableModel& model) { return view_of(model.embedding_weight()); }

AttentionSpec attention_of(const DifferentiableModel& model) {
  const DType type = matrix_of(model).dtype;
  return {.q_dtype = type, .kv_dtype = type, .head_dim = model.config().head_dim};
}

std::vector<SequenceShape> sequences_of(const PackedBatch& batch) {
  std::vector<SequenceShape> sequences;
  for (std::size_t s = 0; s < batch.num_sequences(); ++s) {
    const std::int64_t length = batch.q_indptr[s + 1] - batch.q_indptr[s];
    sequences.push_back({length, length, 0});
  }
  return sequences;
}

}  // namespace

StepReader::StepReader(const DifferentiableModel& model, BatchReader batches, int accumulation,
                       std::vector<WeightedLoss> losses, std::vector<Mask> layer_masks)
    : attention_(attention_of(model)),
      device_(matrix_of(model).device),
      num_q_heads_(model.config().num_q_heads),
      num_kv_heads_(model.config().num_kv_heads),
      accumulation_(accumulation),
      losses_(std::move(losses)),
      masks_(std::move(layer_masks)),
      batches_(std::move(batches)) {
  check(accumulation >= 1, "training: accumulation must be at least 1");
}

PreparedStep StepReader::next(const TrainingPlace& place) {
  const Begin begin{place.num_steps, place.num_read};
  if (!ahead_.valid() || begin_of_ahead_ != begin) start(begin);
  PreparedStep step = ahead_.get();
  start({begin.num_steps + 1, step.num_read});
  return step;
}

void StepReader::start(Begin begin) {
  if (ahead_.valid()) ahead_.wait();
  ahead_ = std::async(std::launch::async, [this, begin] { return prepare(begin); });
  begin_of_ahead_ = begin;
}

PreparedStep StepReader::prepare(Begin begin) {
  // Else plans would set this thread back to a GPU that the run does not use, which takes memory.
  const c10::DeviceGuard guard(torch_device(device_));
  PreparedStep step;
  step.counts.resize(losses_.size());
  batches_.seek(begin.num_read);
  for (int i = 0; i < accumulation_; ++i) {
    step.batches.push_back(prepare_batch(begin.num_steps));
    const PackedBatch& batch = step.batches.back().packed;
    step.num_tokens += batch.num_tokens;
    for (std::size_t loss = 0; loss < losses_.size(); ++loss) {
      step.counts[loss] += losses_[loss].loss->count(batch);
    }
  }
  step.num_read = batches_.num_read();
  return step;
}

PreparedBatch StepReader::prepare_batch(std::int64_t step) {
  PreparedBatch batch;
  batch.packed = batches_.next(step);
  batch.layer_masks = masks_.bind(batch.packed);
  plan(batch);
  return batch;
}

void StepReader::plan(PreparedBatch& batch) const {
  const AttentionShape shape{.sequences = sequences_of(batch.packed),
                             .num_q_heads = num_q_heads_,
                             .num_kv_heads = num_kv_heads_};
  std::map<const std::vector<Mask>*, double> pairs;  // layers share masks
  for (const BatchMasks& masks : batch.layer_masks) {
    const auto [known, is_new] = pairs.try_emplace(masks.get());
    if (is_new) {
      batch.plans.push_back(plan_attention(*masks, shape, attention_, device_));
      known->second = static_cast<double>(cost_of(*batch.plans.back().rows).live_pairs);
    }
    batch.visible_pairs += known->second;
  }
}

}  // namespace perpend
