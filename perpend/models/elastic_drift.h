#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include <c10/core/Event.h>
#include <torch/types.h>

#include "perpend/cache/kv_sequence.h"
#include "perpend/core/range.h"
#include "perpend/kernels/attention_drift.h"
#include "perpend/nn/context.h"

namespace perpend {

// What a step reads of a canvas to find out how its attention drifts (kernels/attention_drift.h),
// where the model lies. `old_queries` are undefined where no row is tracked.
struct DriftOperands {
  torch::Tensor queries;      // [layers, canvas, num_q_heads, head_dim]
  torch::Tensor old_queries;  // [layers, tracked, num_q_heads, head_dim]
  torch::Tensor old_keys;     // [layers, changed, num_kv_heads, head_dim]
  torch::Tensor changed;      // [changed] i32
  torch::Tensor tracked;      // [tracked] i32
  torch::Tensor window;       // [window] i32
  torch::Tensor page_tables;  // [layers, pages] i32
  TensorView k_pages;
  bool by_keys = false;
};

// The drift in some layers. On a GPU it is measured while the host goes on, which waits for it only
// when it asks.
class LayerDrift {
 public:
  // Launches. The operands stay as they are until what is launched has run.
  LayerDrift(const DriftOperands& operands, Range layers, Context& context);

  Range layers() const { return layers_; }
  void wait();
  // After wait(); `layer` of layers().
  float similarity(std::int64_t layer) const;
  std::span<const float> attended(std::int64_t layer) const;  // [canvas]

 private:
  Range layers_;
  std::int64_t canvas_;
  torch::Tensor found_;  // f32 of the host: attended [layers, canvas], then similarity [layers]
  std::optional<c10::Event> event_;
};

// `values` where the model lies; what is copied from them may go at once.
torch::Tensor on_device(std::span<const std::int32_t> values, const Context& context);

// [layers, pages] i32 of a sequence, where the model lies.
torch::Tensor page_tables(const KvSequence& sequence, const Context& context);
// Keys of rows in all layers, as they are: [layers, rows, num_kv_heads, head_dim], a copy.
torch::Tensor keys_of_rows(const KvSequence& sequence, std::span<const std::int32_t> rows,
                           const Context& context);

}  // namespace perpend
