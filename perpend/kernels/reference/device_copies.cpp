#include "perpend/kernels/reference/device_copies.h"

namespace perpend {
namespace {

// From the first element of a view to its last.
std::size_t extent_bytes(const TensorView& view) {
  if (num_elements(view.shape) == 0) return 0;
  std::int64_t last = 0;
  for (int axis = 0; axis < view.num_axes(); ++axis) {
    last += (view.size(axis) - 1) * view.stride(axis);
  }
  return static_cast<std::size_t>(last + 1) * size_of(view.dtype);
}

}  // namespace

DeviceCopies::~DeviceCopies() {
  for (const Copy& copy : copies_) backend_.memory.release(copy.device);
}

TensorView DeviceCopies::copy(const TensorView& host) {
  if (!host || backend_.device.type == DeviceType::kCpu) return host;
  constexpr std::size_t kLeast = 16;  // nothing is something that has an address
  const std::size_t num_bytes = extent_bytes(host);
  void* memory = backend_.memory.allocate(num_bytes + kLeast, backend_.device);
  copies_.push_back({host.data, memory, num_bytes});
  backend_.memory.upload(memory, host.data, num_bytes);
  TensorView on_device = host;
  on_device.data = memory;
  on_device.device = backend_.device;
  return on_device;
}

void DeviceCopies::bring_back() const {
  for (const Copy& copy : copies_) {
    backend_.memory.download(copy.host, copy.device, copy.num_bytes);
  }
}

}  // namespace perpend
