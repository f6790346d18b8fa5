#pragma once

#include <vector>

#include "perpend/core/cpu_features.h"

namespace perpend {

// The instruction sets that this machine has and kernels are built for.
inline std::vector<CpuIsa> machine_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa :
       {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    if (isa <= hardware_cpu_isa()) isas.push_back(isa);
  }
  return isas;
}

}  // namespace perpend
