#include "perpend/nn/workspace.h"

#include <torch/types.h>

namespace perpend {

torch::Tensor Workspace::take(std::initializer_list<std::int64_t> shape, torch::ScalarType dtype) {
  if (next_ == slots_.size()) slots_.emplace_back();
  Slot& slot = slots_[next_++];
  const torch::IntArrayRef sizes(shape.begin(), shape.size());
  if (slot.tensor.defined() && slot.tensor.sizes() == sizes && slot.tensor.scalar_type() == dtype) {
    return slot.tensor;
  }
  std::int64_t num_bytes = static_cast<std::int64_t>(c10::elementSize(dtype));
  for (std::int64_t size : shape) num_bytes *= size;
  if (!slot.memory.defined() || slot.memory.numel() < num_bytes) {
    slot.tensor.reset();
    slot.memory = torch::empty({num_bytes}, torch::dtype(torch::kUInt8).device(device_));
  }
  slot.tensor = slot.memory.narrow(0, 0, num_bytes).view(dtype).view(sizes);
  return slot.tensor;
}

std::size_t Workspace::num_bytes() const {
  std::size_t total = 0;
  for (const Slot& slot : slots_) {
    if (slot.memory.defined()) total += slot.memory.nbytes();
  }
  return total;
}

std::vector<torch::Tensor> Workspace::memory() const {
  std::vector<torch::Tensor> memory;
  for (const Slot& slot : slots_) memory.push_back(slot.memory);
  return memory;
}

}  // namespace perpend
