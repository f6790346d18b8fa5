#pragma once

#include <string_view>

#include "perpend/core/cpu_features.h"
#include "perpend/core/device.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/gated_mlp.h"
#include "perpend/kernels/norm.h"
#include "perpend/kernels/quantized.h"
#include "perpend/kernels/rotary.h"
#include "perpend/kernels/vocabulary.h"

namespace perpend {

// Small row-wise kernels on which decoding lives.
struct FusedTable {
  void (*rms_norm)(const RmsNormArgs& args, Stream stream);
  void (*rotary_cache)(const RotaryCacheArgs& args, Stream stream);
  void (*gated_mlp)(const GatedMlpArgs& args, Stream stream);
  void (*vocabulary)(const VocabularyArgs& args, Stream stream);
};

// All that a device brings. An empty entry means Unsupported.
struct KernelTable {
  std::string_view name;  // "cpu", "cuda"
  AttentionTable attention;
  QuantizedTable quantized;
  FusedTable fused;
};

const KernelTable& cpu_kernels();
// Attention with the loops of one instruction set, which this machine must have.
AttentionTable cpu_attention(CpuIsa isa);
// Defined once: in kernels/cuda/ or, with empty entries, in kernels/no_cuda/.
const KernelTable& cuda_kernels();

const KernelTable& kernels_for(Device device);

// Throws Unsupported "<operation>: not built for <device>" when `entry` is null.
template <class Function>
Function require(Function entry, std::string_view operation, const KernelTable& table) {
  if (entry == nullptr) {
    throw Unsupported(concat(operation, ": the ", table.name,
                             " kernels of this build do not have it; build with -DPERPEND_CUDA=ON "
                             "for GPU kernels, or run on the CPU"));
  }
  return entry;
}

}  // namespace perpend
