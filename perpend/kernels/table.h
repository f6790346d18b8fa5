#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "perpend/core/cpu_features.h"
#include "perpend/core/device.h"
#include "perpend/core/function_ref.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/attention_drift.h"
#include "perpend/kernels/block_scores.h"
#include "perpend/kernels/captured_graph.h"
#include "perpend/kernels/cross_entropy.h"
#include "perpend/kernels/few_rows_product.h"
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
  void (*few_rows_product)(const FewRowsProductArgs& args, Stream stream) = nullptr;
  void (*block_scores)(const BlockScoresArgs& args, Stream stream) = nullptr;
  void (*attention_drift)(const AttentionDriftArgs& args, Stream stream) = nullptr;
};

// Row-wise kernels of training, which elsewhere is LibTorch's. Where an entry is empty, LibTorch's
// operations do the same.
struct TrainingTable {
  void (*add_rms_norm)(const AddRmsNormArgs& args, Stream stream) = nullptr;
  void (*add_rms_norm_backward)(const AddRmsNormGradArgs& args, Stream stream) = nullptr;
  void (*rotary_heads)(const RotaryHeadsArgs& args, Stream stream) = nullptr;
  void (*gated_mlp_backward)(const GatedMlpGradArgs& args, Stream stream) = nullptr;
  void (*cross_entropy)(const CrossEntropyArgs& args, Stream stream) = nullptr;
};

// Memory of a device for those who bring none of their own, such as tests. On a CPU all is empty:
// any memory will do. Copies wait for what was launched before on the default stream. All but
// release() throw DeviceError and OutOfMemory.
struct MemoryTable {
  int (*num_devices)();  // 0 when there is no such device or no driver
  void* (*allocate)(std::size_t num_bytes, Device device);
  void (*release)(void* memory);
  void (*upload)(void* to, const void* from, std::size_t num_bytes);
  void (*download)(void* to, const void* from, std::size_t num_bytes);
  void (*clear)(void* memory, std::size_t num_bytes);  // to zeros
};

// All that a device brings. An empty entry means Unsupported.
struct KernelTable {
  std::string_view name;  // "cpu", "cuda"
  AttentionTable attention;
  QuantizedTable quantized;
  FusedTable fused;
  MemoryTable memory;
  TrainingTable training = {};
  // Whether what is launched on a stream is recorded into a graph instead of run. Throws
  // DeviceError.
  bool (*is_capturing)(Stream stream) = nullptr;
  // What `launches` puts on `stream`, recorded instead of run; the stream must not be the default
  // one. Null where there are no graphs. Throws DeviceError, and what `launches` throws.
  std::unique_ptr<CapturedGraph> (*capture)(Device device, Stream stream,
                                            FunctionRef<void()> launches) = nullptr;
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
                             " kernels of this build do not have it; run on the CPU (GPU kernels "
                             "come with -DPERPEND_CUDA=ON)"));
  }
  return entry;
}

}  // namespace perpend
