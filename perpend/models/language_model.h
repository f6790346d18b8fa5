#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include <torch/types.h>

#include "perpend/cache/kv_batch.h"
#include "perpend/core/device.h"
#include "perpend/core/error.h"
#include "perpend/core/function_ref.h"
#include "perpend/mask/mask.h"
#include "perpend/models/model_config.h"
#include "perpend/nn/context.h"

namespace perpend {

class ForwardPass;
class LayerwiseModel;

constexpr std::int32_t kNoToken = -1;

// A copy of all rows at the input of a layer.
struct RowsAtLayer {
  int layer = 0;
  std::span<float> rows;  // [rows, model_dim]
};

// Takes logits [rows, vocab_size] f32 of the wanted rows from `first` on, on the device of the
// context, valid during the call, to be changed at will.
using LogitVisitor = FunctionRef<void(std::int64_t first, const torch::Tensor& logits)>;
// Rows that it gets at once, if there are as many: a GPU reads the whole head for each call.
constexpr std::int64_t most_logit_rows(Device device) {
  return device.type == DeviceType::kCpu ? 32 : 256;
}

// One forward pass over a ragged batch: the rows of all sequences one after another. A sequence may
// stand there several times, with parts of it that lie apart. Where its store has one layer alone,
// the keys of each layer take the place of those before: enough for a pass that none follows.
struct ForwardInput {
  std::span<const std::int32_t> tokens;      // [rows]
  std::span<const KvRows> sequences;         // whose rows these are; counts add up to rows
  std::span<const Mask> layer_masks;         // one for each layer that runs
  std::span<const std::int32_t> logit_rows;  // rows whose logits are wanted
  // A part of the layers: those from `from_layer` on, given the rows at its input where that is not
  // the first, and below `end_layer`. Where no logits are wanted the last of them only makes its
  // keys and values.
  static constexpr int kAllLayers = -1;
  int from_layer = 0;
  int end_layer = kAllLayers;
  std::span<const float> input_rows = {};         // [rows, model_dim]
  std::span<const RowsAtLayer> wanted_rows = {};  // of layers in (from_layer, end_layer)

  // The layers that run, of `num_layers`.
  Range layers(int num_layers) const {
    return {from_layer, end_layer == kAllLayers ? num_layers : end_layer};
  }
  bool runs_everything() const {
    return from_layer == 0 && end_layer == kAllLayers && wanted_rows.empty();
  }
  // Takes the logits a few rows at a time, so that they need no memory for all; none are returned.
  const LogitVisitor* visit_logits = nullptr;
  // [rows] what the rotary embedding takes for the rows' positions, below context_length; empty:
  // their places in their sequences.
  std::span<const std::int32_t> positions = {};
  // [rows] where the rows stand in their sequence, if not one after another: of one sequence alone,
  // under the mask `all`. KvRows then counts them and their keys. The rotary embedding takes places
  // for positions.
  std::span<const std::int32_t> places = {};
  // Where sequences have different masks: of each sequence one for each layer that runs, and
  // layer_masks are those of the first. Empty: layer_masks are those of all.
  std::span<const std::span<const Mask>> sequence_masks = {};
};

// Rows whose heads in one layer are wanted.
struct HeadRowsOf {
  int layer = 0;  // from 0; it and those above do not run
  std::span<const std::int32_t> q_rows;
  std::span<const std::int32_t> k_rows;
  std::function<void(int num_layers)> progress = {};  // after each layer
};

// Queries and keys turned by their positions, in the workspace.
struct TurnedHeads {
  torch::Tensor q;  // [q_rows, num_q_heads, head_dim], of the type of the context
  torch::Tensor k;  // [k_rows, num_kv_heads, head_dim]
};

// A network from tokens to logits over a paged cache. Weights only: all run-time state is handed
// in, so that one model serves any number of callers.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual const ModelConfig& config() const = 0;
  // Bytes that the weights take in memory.
  virtual std::size_t num_bytes() const = 0;

  // Writes keys and values of all rows into their sequences' pages (already appended) and returns
  // [logit_rows, vocab_size] f32 on the device of `context`, in its workspace, valid until its next
  // pass. Throws InvalidArgument for token ids beyond the vocabulary and positions beyond the
  // context.
  virtual torch::Tensor forward(const ForwardInput& input, Context& context) const = 0;

  // Runs the layers below `wanted.layer` and returns what that layer's attention would compare: its
  // norm and the projections of the wanted rows are all that is computed of it. No logits. Valid
  // until the next pass of `context`. Throws as forward(), and Unsupported where a family has none.
  virtual TurnedHeads heads(const ForwardInput& /*input*/, const HeadRowsOf& /*wanted*/,
                            Context& /*context*/) const {
    throw Unsupported(concat("model: heads of a layer are not built for ", config().architecture));
  }

  // The same network taken apart; null where it can not be.
  virtual const LayerwiseModel* layerwise() const { return nullptr; }

  // The two halves of forward(), for passes that are captured (decode_graph.h). Throw Unsupported
  // where is_capturable() says no.
  virtual bool is_capturable() const { return false; }
  //
  // Checks `input` and makes ready what depends on its positions.
  virtual void prepare(const ForwardInput& input) const;
  // Only launches, of the same kind and order for all passes of one size. Logits as forward() of an
  // input with this visitor, which may be null.
  virtual torch::Tensor run(const ForwardPass& pass, const LogitVisitor* visit,
                            Context& context) const;
};

}  // namespace perpend
