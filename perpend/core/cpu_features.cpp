#include "perpend/core/cpu_features.h"

#include <array>
#include <cstdlib>

#include <cpuid.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

// clang 16's __builtin_cpu_supports does not know the name.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace

std::string_view name_of(CpuIsa isa) {
  static constexpr std::array<std::string_view, 3> kNames = {"scalar", "avx2", "avx512"};
  return kNames[static_cast<std::size_t>(isa)];
}

CpuIsa hardware_cpu_isa() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx2 && avx512) return CpuIsa::kAvx512;
  return avx2 ? CpuIsa::kAvx2 : CpuIsa::kScalar;
}

CpuIsa best_cpu_isa() {
  const CpuIsa hardware = hardware_cpu_isa();
  const char* wanted = std::getenv("PERPEND_ISA");
  if (wanted == nullptr || *wanted == '\0') return hardware;
  for (CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (name_of(isa) != wanted) continue;
    if (isa > hardware) {
      throw Unsupported(
          concat("PERPEND_ISA=", wanted, ": this machine has ", name_of(hardware), " at most"));
    }
    return isa;
  }
  throw InvalidArgument(concat("PERPEND_ISA: expected scalar, avx2 or avx512 (", wanted, ")"));
}

}  // namespace perpend
