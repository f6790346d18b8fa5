#pragma once

#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/core/range.h"
#include "perpend/nn/context.h"

namespace perpend {

// y = W x + b with W in any number format, kept in its blocks. Several weights of one input (q, k
// and v; gate and up) make one Linear whose outputs lie one after another.
class Linear {
 public:
  Linear() = default;
  // Packs `sources` for the device of `context`; `bias` is empty or holds one value an output.
  Linear(std::span<const WeightSource> sources, std::vector<float> bias, LinearMode mode,
         const Context& context);

  std::int64_t in_features() const { return weight_.in_features; }
  std::int64_t out_features() const { return weight_.out_features; }
  std::size_t num_bytes() const { return weight_.num_bytes(); }

  // x [rows, in_features] f32 -> [rows, out_features] f32 in the workspace.
  torch::Tensor forward(const torch::Tensor& x, Context& context) const;
  // The outputs [outputs.begin, outputs.end) alone: [rows, outputs.size()], rows may lie apart.
  torch::Tensor forward_part(const torch::Tensor& x, Range outputs, Context& context) const;
  // sum += W x + b, in place: a residual connection without a pass of its own.
  void add_to(const torch::Tensor& sum, const torch::Tensor& x, Context& context) const;
  // Rows of W itself: an embedding look-up. ids [n] -> [n, in_features].
  torch::Tensor rows(std::span<const std::int32_t> ids, Context& context) const;

 private:
  void run(const torch::Tensor& x, const torch::Tensor& out, bool accumulate, Context& context,
           Range outputs = {}) const;

  PackedWeight weight_;
  std::vector<float> bias_;
};

}  // namespace perpend
