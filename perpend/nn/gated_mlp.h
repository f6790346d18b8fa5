#pragma once

#include <torch/types.h>

#include "perpend/kernels/gated_mlp.h"
#include "perpend/nn/context.h"
#include "perpend/nn/linear.h"

namespace perpend {

// down(activation(gate(x)) * up(x)) (arXiv:2002.05202).
class GatedMlp {
 public:
  GatedMlp() = default;
  // `gate_up` yields gate and up one after another.
  GatedMlp(Linear gate_up, Linear down, Activation activation);

  // residual + mlp(x), as Linear::add_to(); x, residual [rows, model_dim], x of the type of the
  // context.
  torch::Tensor add_to(const torch::Tensor& residual, const torch::Tensor& x,
                       Context& context) const;

  // mlp(x) recorded by autograd: a new tensor of the type of the matrices, as x is.
  torch::Tensor train_forward(const torch::Tensor& x) const;

  Linear& gate_up() { return gate_up_; }
  Linear& down() { return down_; }
  const Linear& gate_up() const { return gate_up_; }
  const Linear& down() const { return down_; }
  std::size_t num_bytes() const { return gate_up_.num_bytes() + down_.num_bytes(); }

 private:
  Linear gate_up_;
  Linear down_;
  Activation activation_ = Activation::kSilu;
};

}  // namespace perpend
