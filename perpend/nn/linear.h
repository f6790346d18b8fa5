#pragma once

#include <map>
#include <span>
#include <variant>
#include <vector>

#include <torch/types.h>

#include "perpend/core/range.h"
#include "perpend/nn/context.h"
#include "perpend/nn/lora_adapter.h"

namespace perpend {

// How a model holds its matrices: packed in their blocks, for the products of the CPU's own
// kernels; or as tensors of LibTorch of a type (f32, bf16 or f16) on any device, dequantised once.
using WeightForm = std::variant<LinearMode, torch::ScalarType>;

// y = W x + b with W in any number format. Several weights of one input (q, k and v; gate and up)
// make one Linear whose outputs lie one after another. As a tensor, W takes part in autograd: where
// gradients of x, W or b are recorded, results are new tensors instead of memory of the workspace.
class Linear {
 public:
  Linear() = default;
  // Packs `sources`, or makes a tensor of them, on the device of `context`; `bias` is empty or
  // holds one value an output. Throws Unsupported for blocks on a device whose kernels have no
  // products.
  Linear(std::span<const WeightSource> sources, std::vector<float> bias, WeightForm form,
         const Context& context);
  // W [out_features, in_features] f32, bf16 or f16; b [out_features] of the same type, or
  // undefined.
  explicit Linear(torch::Tensor weight, torch::Tensor bias = {});

  std::int64_t in_features() const;
  std::int64_t out_features() const;
  std::size_t num_bytes() const;

  // The tensors of W and b, b undefined when there is none. Throws Unsupported when W is packed.
  const torch::Tensor& weight() const;
  const torch::Tensor& bias() const;

  // x [rows, in_features] -> [rows, out_features]; packed, both are f32, otherwise of the type of
  // W.
  torch::Tensor forward(const torch::Tensor& x, Context& context) const;
  // The same, with f32 results.
  torch::Tensor forward_f32(const torch::Tensor& x, Context& context) const;
  // The outputs [outputs.begin, outputs.end) alone: [rows, outputs.size()] of the type of
  // forward(), not recorded; rows may lie apart.
  torch::Tensor forward_part(const torch::Tensor& x, Range outputs, Context& context) const;
  // sum + W x + b, sum [rows, out_features] f32: in place, a residual connection without a pass of
  // its own.
  torch::Tensor add_to(const torch::Tensor& sum, const torch::Tensor& x, Context& context) const;
  // Rows of W itself, an embedding look-up: ids [n] i32 -> [n, in_features] f32.
  torch::Tensor rows(const torch::Tensor& ids, Context& context) const;
  // From now on rows() finds `row` there. A tensor's own row is overwritten, rounded to its type;
  // beside packed blocks the values are kept as they are, and products know nothing of them.
  // Throws InvalidArgument for a token outside of W and values that are no row of it.
  void replace_row(const TokenRow& row);

  // A low-rank addition, of which each output may have one; W and the adapter's tensors are of one
  // type and device. Only train_forward() adds it up as it is; merge it before any other use.
  // Throws InvalidArgument for shapes that do not fit.
  void add_adapter(LoraAdapter adapter);
  const std::vector<LoraAdapter>& adapters() const { return adapters_; }
  // Adds all adapters to W itself, rounded once, and forgets them.
  void merge_adapters();

  // W x + b with the adapters, recorded by autograd: a new tensor of the type of W.
  torch::Tensor train_forward(const torch::Tensor& x) const;

 private:
  struct Packed {
    PackedWeight weight;
    std::vector<float> bias;
    std::map<std::int32_t, torch::Tensor> replaced_rows;  // [in_features] f32
  };
  struct Dense {
    torch::Tensor weight;
    torch::Tensor bias;
  };

  const Dense& dense() const;
  bool is_recorded(const torch::Tensor& x) const;
  void run(const torch::Tensor& x, const torch::Tensor& out, bool accumulate,
           Context& context) const;
  static void run_packed(const Packed& packed, const torch::Tensor& x, const torch::Tensor& out,
                         bool accumulate, Range outputs, Context& context);

  std::variant<Packed, Dense> form_;
  std::vector<LoraAdapter> adapters_;
};

}  // namespace perpend
