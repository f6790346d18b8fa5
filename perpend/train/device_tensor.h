#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace perpend {

// A copy of host values on `device`, without waiting for what that has yet to do.
template <class T>
torch::Tensor device_tensor(const std::vector<T>& values, torch::Device device) {
  const auto host =
      torch::from_blob(const_cast<T*>(values.data()), {static_cast<std::int64_t>(values.size())},
                       torch::dtype(c10::CppTypeToScalarType<T>::value));
  return device.is_cpu() ? host.clone() : host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace perpend
