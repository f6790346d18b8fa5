#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/tensor_spec.h"

namespace perpend {

// The order in which a file's tensors are written: says whether bytes are those of the tensor in
// turn, so that a mistaken order can not become a file of swapped weights.
class TensorQueue {
 public:
  // `path` begins every error. Throws InvalidArgument for a name given twice and for what
  // num_bytes_of refuses.
  TensorQueue(std::string path, std::vector<TensorSpec> tensors);

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  std::uint64_t num_bytes(std::size_t tensor) const { return num_bytes_[tensor]; }

  // Takes note of the next `num_bytes` of the tensor called `name`; true when they complete it.
  // Throws InvalidArgument when it is another tensor's turn or the tensor has fewer bytes left.
  bool advance(std::string_view name, std::uint64_t num_bytes);
  // Throws InvalidArgument naming the first tensor that is not complete.
  void check_complete() const;

 private:
  void skip_empty();

  std::string path_;
  std::vector<TensorSpec> tensors_;
  std::vector<std::uint64_t> num_bytes_;
  std::size_t turn_ = 0;
  std::uint64_t written_ = 0;  // bytes of the tensor in turn
};

}  // namespace perpend
