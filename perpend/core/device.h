#pragma once

#include <cstdint>
#include <ostream>

namespace perpend {

enum class DeviceType : std::uint8_t { kCpu, kCuda };

// Where memory lies: a kind of device and, for CUDA, its ordinal.
struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;

  friend constexpr bool operator==(const Device&, const Device&) = default;
};

inline std::ostream& operator<<(std::ostream& out, Device device) {
  if (device.type == DeviceType::kCpu) return out << "cpu";
  return out << "cuda:" << device.index;
}

}  // namespace perpend
