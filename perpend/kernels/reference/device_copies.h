#pragma once

#include <cstddef>
#include <vector>

#include "perpend/core/tensor_view.h"
#include "perpend/kernels/reference/backends.h"

namespace perpend {

// Copies of host views in the memory of a backend's device, with the same strides; what lies
// between the rows is copied too. On a CPU the views themselves.
class DeviceCopies {
 public:
  explicit DeviceCopies(const AttentionBackend& backend) : backend_(backend) {}
  ~DeviceCopies();
  DeviceCopies(const DeviceCopies&) = delete;
  DeviceCopies& operator=(const DeviceCopies&) = delete;

  // An absent view stays absent.
  TensorView copy(const TensorView& host);
  // The memory of all copies back to where it came from.
  void bring_back() const;

 private:
  struct Copy {
    void* host = nullptr;
    void* device = nullptr;
    std::size_t num_bytes = 0;
  };

  const AttentionBackend& backend_;
  std::vector<Copy> copies_;
};

}  // namespace perpend
