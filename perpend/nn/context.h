#pragma once

#include <optional>

#include <c10/core/Stream.h>
#include <torch/types.h>

#include "perpend/core/aligned_buffer.h"
#include "perpend/kernels/table.h"
#include "perpend/nn/workspace.h"
#include "perpend/ops/schedule_cache.h"

namespace perpend {

// What a layer needs besides its weights and its input. One for each thread that runs models; never
// shared between two passes that run at the same time.
struct Context {
  Device device;  // where weights and activations lie
  // Of activations between kernels: f32 on a CPU, bf16 on a GPU. The residual sum and logits are
  // f32 everywhere: rounding it at every layer would cost bits, and keeping it saves no time, since
  // only norms and the epilogues of two products a layer touch it.
  torch::ScalarType type = torch::kFloat32;
  const KernelTable* kernels = nullptr;
  Stream stream;
  std::optional<c10::Stream> torch_stream = {};  // the same one, for LibTorch's own kernels
  Workspace* workspace = nullptr;
  ScheduleCache* schedules = nullptr;
  bool captures_decoding = false;     // whether passes of single tokens run as captured graphs
  bool multiplies_few_rows = true;    // whether a GPU uses our own products for few rows
  AlignedBuffer linear_scratch = {};  // quantised activations
};

// The same with another workspace, for passes that are captured: what they are made of must not be
// given away.
inline Context with_workspace(const Context& context, Workspace& workspace) {
  return {.device = context.device,
          .type = context.type,
          .kernels = context.kernels,
          .stream = context.stream,
          .torch_stream = context.torch_stream,
          .workspace = &workspace,
          .schedules = context.schedules,
          .multiplies_few_rows = context.multiplies_few_rows};
}

}  // namespace perpend
