#include "perpend/kernels/table.h"

namespace perpend {

const KernelTable& kernels_for(Device device) {
  return device.type == DeviceType::kCpu ? cpu_kernels() : cuda_kernels();
}

}  // namespace perpend
