#pragma once

#include <string_view>
#include <vector>

namespace perpend {

// Instruction sets that kernels are compiled for, each including the ones before it.
enum class CpuIsa {
  kScalar,      // x86-64 baseline
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // AVX-512 F, BW, DQ, VL and VNNI
  kAvx512Bf16,  // AVX-512 BF16
  kAmx,         // AMX tiles of int8 and bf16, with the system's leave to use them
};

std::string_view name_of(CpuIsa isa);

// The best set of this machine, or a lower one named by PERPEND_ISA (scalar, avx2, avx512,
// avx512bf16, amx).
// Throws InvalidArgument for an unknown name, Unsupported for one this machine lacks.
CpuIsa best_cpu_isa();

// What the machine itself has, whatever PERPEND_ISA says.
CpuIsa hardware_cpu_isa();

// All that this machine has, ascending.
std::vector<CpuIsa> available_cpu_isas();

}  // namespace perpend
