#pragma once

#include <string>
#include <vector>

#include "perpend/kernels/table.h"

namespace perpend {

// One implementation of attention that this machine can run.
struct AttentionBackend {
  std::string name;  // "cpu avx2"
  AttentionTable table;
  Device device = {};
  MemoryTable memory = {};  // of the device; empty on a CPU
};

// One for each instruction set of this CPU, ascending, of which the last is what cpu_kernels()
// takes unless PERPEND_ISA says otherwise; then the first GPU, if there is one and its kernels are
// built.
std::vector<AttentionBackend> attention_backends();

}  // namespace perpend
