#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/mask/mask.h"
#include "perpend/models/model_config.h"

namespace perpend {

// What is to be planned: `batch` sequences of `num_tokens` tokens each, values of two bytes.
struct PlanRequest {
  std::int64_t num_tokens = 0;
  std::int64_t batch = 1;
  std::int64_t block_size = 64;       // tokens of a block, and of a page of keys
  double bytes_per_second = 3.35e12;  // of the memory that decoding reads
};

// One layer and one sequence, all heads together.
struct LayerPlan {
  Mask mask;
  std::int64_t live_blocks = 0;  // block pairs with a visible pair
  std::int64_t live_pairs = 0;
  // Pairs that are paid for: of a causal layer those that are visible, of any other whole blocks.
  std::int64_t computed_pairs = 0;
  std::int64_t cached_blocks = 0;  // that the last token sees, by some head
};

// What a forward pass and a decoding step must do at least.
struct WorkPlan {
  std::int64_t kv_bytes = 0;
  double attention_flops = 0;  // of a prefill
  double decode_bytes = 0;     // weights and keys that one step reads
};

struct ModelPlan {
  std::int64_t num_parameters = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t kv_bytes_per_token = 0;  // of one layer
  double linear_flops = 0;              // of a prefill, the head left out
  std::vector<LayerPlan> layers;
  WorkPlan planned;
  WorkPlan dense;  // every layer causal

  // How many times less than dense.
  double kv_cut() const;  // share of the bytes that goes
  double prefill_bound() const { return forward(dense) / forward(planned); }
  // 3 times the linear and 3.5 times the attention work of a forward pass: nothing recomputed.
  double training_bound() const { return training(dense) / training(planned); }
  double decode_bound() const { return dense.decode_bytes / planned.decode_bytes; }
  double decode_seconds(const WorkPlan& work) const { return work.decode_bytes / bytes_per_second; }

  double bytes_per_second = 0;

 private:
  double forward(const WorkPlan& work) const { return linear_flops + work.attention_flops; }
  double training(const WorkPlan& work) const {
    return 3 * linear_flops + 3.5 * work.attention_flops;
  }
};

// Weights of the network, biases as family_has_bias() says included.
std::int64_t count_parameters(const ModelConfig& config);

// `masks` has one a layer. Throws InvalidArgument for counts that are not positive or too large and
// for masks whose names are not bound.
ModelPlan plan_model(const ModelConfig& config, std::span<const Mask> masks,
                     const PlanRequest& request);

}  // namespace perpend
