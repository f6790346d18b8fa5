#pragma once

#include <memory>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/models/language_model.h"
#include "perpend/nn/self_attention.h"

namespace perpend {

// How many there are of each thing in a pass.
struct PassSize {
  std::int64_t rows = 0;
  std::int64_t sequences = 0;
  std::int64_t logit_rows = 0;
  std::int64_t layers = 0;
  std::int64_t kept_layers = 0;  // with slots and page tables of their own
  std::int64_t pages = 0;        // entries of a page table

  friend bool operator==(const PassSize&, const PassSize&) = default;
};

PassSize size_of(const ForwardInput& input);
// Those of a layer: one for all sequences, or one for each.
std::vector<Mask> masks_of_layer(const ForwardInput& input, std::size_t layer);
// Of the queries of `input` in a model.
AttentionShape attention_shape(const ForwardInput& input, const ModelConfig& config);
// What attention over the pages of `input` is asked for in a context.
AttentionSpec attention_spec(const ForwardInput& input, const Context& context);

// The small arrays that a pass reads beside weights, in the memory of its device: one block, filled
// by one copy. What lies where depends on the size alone, so that a captured pass can be run again
// on other arrays.
class ForwardPass {
 public:
  // Room for inputs of this size, with page tables up to size.pages.
  ForwardPass(const PassSize& size, const Context& context);

  // Takes over the layers and arrays of `input`, which may want fewer logits than there is room for
  // and has as many of everything else. To a GPU one copy, asynchronous on the context's stream.
  void assign(const ForwardInput& input, const Context& context);
  // What every layer attends to: schedules made for `input`, or plans that stay the caller's.
  void set_schedules(const ForwardInput& input, const ModelConfig& config, const Context& context);
  void set_plans(std::vector<const AttentionPlan*> plans) { plans_ = std::move(plans); }

  Range layers() const { return layers_; }                       // that run
  const torch::Tensor& tokens() const { return tokens_; }        // [rows] i32
  const torch::Tensor& positions() const { return positions_; }  // [rows] i32
  // [those of the input] i32
  torch::Tensor logit_rows() const { return logit_rows_.narrow(0, 0, num_logit_rows_); }
  AttentionInput attention(int layer) const;

 private:
  // An array of the block.
  torch::Tensor place(std::initializer_list<std::int64_t> shape, torch::ScalarType type);
  template <class T>
  T* host_data(const torch::Tensor& array) const;
  void write(const ForwardInput& input);

  PassSize size_;
  Range layers_;
  std::int64_t num_logit_rows_ = 0;
  std::int64_t num_bytes_ = 0;
  torch::Tensor block_;  // [bytes] u8
  torch::Tensor host_;   // the same on the host; the block itself on a CPU
  torch::Tensor tokens_;
  torch::Tensor positions_;
  torch::Tensor logit_rows_;
  torch::Tensor q_indptr_;
  torch::Tensor slots_;        // [kept_layers * rows] i64
  torch::Tensor page_tables_;  // [kept_layers * sequences * pages] i32
  TensorView k_pages_;
  TensorView v_pages_;
  std::vector<std::shared_ptr<const Schedule>> schedules_;  // of each layer
  std::vector<const AttentionPlan*> plans_;
};

}  // namespace perpend
