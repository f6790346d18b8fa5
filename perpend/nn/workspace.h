#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

#include <torch/types.h>

namespace perpend {

// Activations of a forward pass, handed out in call order and taken back by scope. A pass that asks
// for the same shapes as the one before gets the same tensors and allocates nothing.
class Workspace {
 public:
  explicit Workspace(torch::Device device = torch::kCPU) : device_(device) {}

  // Uninitialised, dense. Valid until the scope that took it ends.
  torch::Tensor take(std::initializer_list<std::int64_t> shape,
                     torch::ScalarType dtype = torch::kFloat32);

  // Gives back, when it ends, all that was taken since it began.
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), first_(workspace.next_) {}
    ~Scope() { workspace_.next_ = first_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    std::size_t first_;
  };

  std::size_t num_bytes() const;
  // What all slots lie in now, for those who go on reading there when a slot has outgrown it.
  std::vector<torch::Tensor> memory() const;

 private:
  struct Slot {
    torch::Tensor memory;  // [bytes] u8
    torch::Tensor tensor;  // the shape last asked for, over `memory`
  };

  torch::Device device_;
  std::vector<Slot> slots_;
  std::size_t next_ = 0;
};

}  // namespace perpend
