#pragma once

#include <algorithm>
#include <functional>

#include "perpend/nn/context.h"

namespace perpend {

// What bounds a pass on this device, measured in the same process; 0 on a CPU, where nothing is
// bounded by them.
struct DeviceRates {
  double copy_bytes_per_s = 0;  // read and written
  double product_flops_per_s = 0;

  bool known() const { return copy_bytes_per_s > 0; }
  // What reading so much and computing so much takes, one beside the other.
  double bound_ms(double bytes, double flops) const {
    return std::max(bytes / copy_bytes_per_s, flops / product_flops_per_s) * 1e3;
  }
};

// Copies of 1 GiB and products of 8192 x 8192 matrices in bf16.
DeviceRates measure_device(const Context& context);

// Milliseconds until the device has done what `work` launches.
double ms_of(const Context& context, const std::function<void()>& work);

}  // namespace perpend
