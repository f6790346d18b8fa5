#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace perpend {

// A tensor that training changes, under the name that checkpoints have for it.
struct TrainedTensor {
  std::string name;
  torch::Tensor tensor;  // a leaf of autograd: f32, f64 or bf16
};

// AdamW (arXiv:1711.05101) over f32 copies of the weights: a bf16 weight is its copy, rounded after
// each step. Gradients of several backward passes add up in f32 until step().
class Optimizer {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.0;  // of matrices; vectors (norms, biases) have none
    double clip_norm = 0.0;     // largest norm of all gradients together; 0: any
  };

  // Makes every tensor require a gradient. Throws InvalidArgument for an empty list, a name given
  // twice and a tensor that is no floating-point leaf.
  Optimizer(std::vector<TrainedTensor> tensors, const Options& options);

  // Adds the gradients that a backward pass left to those before, and takes them from the tensors.
  void accumulate();
  // Clips the gradients, moves the weights and forgets the gradients. Returns the norm before
  // clipping, a scalar on the tensors' device, so that nobody has to wait for it.
  torch::Tensor step(double learning_rate);

  const std::vector<TrainedTensor>& tensors() const { return tensors_; }

  // All that a run needs to go on, in f32: the weights under their names, "<name>.exp_avg" and
  // "<name>.exp_avg_sq". Borrows the memory.
  std::vector<TrainedTensor> state() const;
  std::int64_t num_steps() const { return num_steps_; }
  // After state() was written over: the tensors are rounded anew.
  void restore(std::int64_t num_steps);

 private:
  // Tensors with one weight decay.
  struct Group {
    double weight_decay = 0.0;
    std::vector<std::size_t> members;
  };

  torch::Tensor clip(std::vector<torch::Tensor>& gradients) const;
  void round_weights();

  std::vector<TrainedTensor> tensors_;
  Options options_;
  std::vector<torch::Tensor> weights_;    // f32; the tensor itself where it is f32
  std::vector<torch::Tensor> gradients_;  // undefined before the first accumulate()
  std::vector<torch::Tensor> exp_avg_;
  std::vector<torch::Tensor> exp_avg_sq_;
  std::vector<Group> groups_;
  std::int64_t num_steps_ = 0;
};

}  // namespace perpend
