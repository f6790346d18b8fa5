#include "perpend/core/cpu_features.h"

#include <array>
#include <cstdlib>

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::array kAllIsas = {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512,
                                 CpuIsa::kAvx512Bf16, CpuIsa::kAmx};

// clang 16's __builtin_cpu_supports does not know the name.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// Tile registers are state that Linux saves only for processes that asked for it (since 5.16).
bool may_use_amx() {
  constexpr unsigned kAmx = 1U << 22 | 1U << 24 | 1U << 25;  // bf16, tile, int8
  constexpr long kRequestPermission = 0x1023;                // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;                             // XFEATURE_XTILEDATA
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAmx) == kAmx &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::string_view name_of(CpuIsa isa) {
  static constexpr std::array<std::string_view, 5> kNames = {"scalar", "avx2", "avx512",
                                                             "avx512bf16", "amx"};
  return kNames[static_cast<std::size_t>(isa)];
}

CpuIsa hardware_cpu_isa() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool bf16 = avx2 && avx512 && __builtin_cpu_supports("avx512bf16");
  static const bool amx = bf16 && may_use_amx();
  if (amx) return CpuIsa::kAmx;
  if (bf16) return CpuIsa::kAvx512Bf16;
  if (avx2 && avx512) return CpuIsa::kAvx512;
  return avx2 ? CpuIsa::kAvx2 : CpuIsa::kScalar;
}

std::vector<CpuIsa> available_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : kAllIsas) {
    if (isa <= hardware_cpu_isa()) isas.push_back(isa);
  }
  return isas;
}

CpuIsa best_cpu_isa() {
  const CpuIsa hardware = hardware_cpu_isa();
  const char* wanted = std::getenv("PERPEND_ISA");
  if (wanted == nullptr || *wanted == '\0') return hardware;
  for (CpuIsa isa : kAllIsas) {
    if (name_of(isa) != wanted) continue;
    if (isa > hardware) {
      throw Unsupported(
          concat("PERPEND_ISA=", wanted, ": this machine has ", name_of(hardware), " at most"));
    }
    return isa;
  }
  throw InvalidArgument(
      concat("PERPEND_ISA: expected scalar, avx2, avx512, avx512bf16 or amx (", wanted, ")"));
}

}  // namespace perpend
