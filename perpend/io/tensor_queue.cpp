#include "perpend/io/tensor_queue.h"

#include <set>

#include "perpend/core/error.h"

namespace perpend {

TensorQueue::TensorQueue(std::string path, std::vector<TensorSpec> tensors)
    : path_(std::move(path)), tensors_(std::move(tensors)) {
  std::set<std::string_view> names;
  for (const TensorSpec& tensor : tensors_) {
    if (!names.insert(tensor.name).second) {
      throw InvalidArgument(concat(path_, ": tensor '", tensor.name, "' is given twice"));
    }
    num_bytes_.push_back(num_bytes_of(tensor));
  }
  skip_empty();
}

void TensorQueue::skip_empty() {
  while (turn_ < tensors_.size() && num_bytes_[turn_] == 0) ++turn_;
}

bool TensorQueue::advance(std::string_view name, std::uint64_t num_bytes) {
  if (num_bytes == 0) return false;
  if (turn_ == tensors_.size() || tensors_[turn_].name != name) {
    throw InvalidArgument(concat(path_, ": bytes of tensor '", name, "' are out of turn: expected ",
                                 turn_ == tensors_.size() ? "no more" : tensors_[turn_].name));
  }
  const std::uint64_t left = num_bytes_[turn_] - written_;
  if (num_bytes > left) {
    throw InvalidArgument(concat(path_, ": tensor '", name, "' has ", left,
                                 " bytes left to write, ", num_bytes, " were given"));
  }
  written_ += num_bytes;
  if (written_ < num_bytes_[turn_]) return false;
  written_ = 0;
  ++turn_;
  skip_empty();
  return true;
}

void TensorQueue::check_complete() const {
  if (turn_ == tensors_.size()) return;
  throw InvalidArgument(concat(path_, ": tensor '", tensors_[turn_].name, "' has ", written_,
                               " of its ", num_bytes_[turn_], " bytes"));
}

}  // namespace perpend
