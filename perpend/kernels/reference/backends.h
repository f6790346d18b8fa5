#pragma once

#include <string>
#include <vector>

#include "perpend/kernels/attention.h"

namespace perpend {

// One implementation of attention that this machine can run.
struct AttentionBackend {
  std::string name;  // "cpu avx2"
  AttentionTable table;
};

// One for each instruction set of this CPU, ascending; the last is what cpu_kernels() takes unless
// PERPEND_ISA says otherwise.
std::vector<AttentionBackend> attention_backends();

}  // namespace perpend
