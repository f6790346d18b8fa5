#include "perpend/kernels/reference/backends.h"

#include "perpend/kernels/table.h"

namespace perpend {

std::vector<AttentionBackend> attention_backends() {
  std::vector<AttentionBackend> backends;
  for (const CpuIsa isa : available_cpu_isas()) {
    backends.push_back({concat("cpu ", name_of(isa)), cpu_attention(isa)});
  }
  return backends;
}

}  // namespace perpend
