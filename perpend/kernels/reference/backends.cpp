#include "perpend/kernels/reference/backends.h"

namespace perpend {

std::vector<AttentionBackend> attention_backends() {
  std::vector<AttentionBackend> backends;
  for (const CpuIsa isa : available_cpu_isas()) {
    backends.push_back({concat("cpu ", name_of(isa)), cpu_attention(isa)});
  }
  const KernelTable& cuda = cuda_kernels();
  if (cuda.memory.num_devices != nullptr && cuda.memory.num_devices() > 0) {
    backends.push_back({"cuda", cuda.attention, {DeviceType::kCuda, 0}, cuda.memory});
  }
  return backends;
}

}  // namespace perpend
