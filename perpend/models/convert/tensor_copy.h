#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/core/function_ref.h"
#include "perpend/core/thread_pool.h"
#include "perpend/models/convert/tensor_plan.h"

namespace perpend {

// Makes the bytes of target tensors, a piece of a few MiB at a time.
class TensorCopy {
 public:
  using Write = FunctionRef<void(std::span<const std::byte> bytes)>;
  // Told how many bytes of the source the last piece took; false ends the work.
  using Advance = FunctionRef<bool(std::int64_t source_bytes)>;

  TensorCopy(int head_dim, ThreadPool& threads) : head_dim_(head_dim), threads_(threads) {}

  // Hands the whole of the step's target to `write`, in order. False when `advance` ended it.
  // Throws InvalidArgument naming the tensor for a value that the target's format can not hold.
  bool run(const TensorStep& step, Write write, Advance advance);

 private:
  int head_dim_;
  ThreadPool& threads_;
  std::vector<std::byte> piece_;
};

}  // namespace perpend
