#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/io/tensor_spec.h"
#include "perpend/models/model_config.h"

namespace perpend {

// The order of a head's rows in q and k, made from the other order; or rows as they are.
enum class RowOrder { kSame, kInterleaved, kHalfSplit };

// One tensor of the target and where it comes from. Both have the same shape.
struct TensorStep {
  StoredTensor source;
  TensorSpec target;
  RowOrder order = RowOrder::kSame;
};

struct TensorPlan {
  std::vector<TensorStep> steps;
  int head_dim = 0;
  std::vector<float> rotary_divisors;  // owns the values of a step that no tensor of the source is

  std::vector<TensorSpec> targets() const;
  std::int64_t source_bytes() const;
  std::int64_t target_bytes() const;
  // The format that holds most of the matrices' values.
  BlockFormat main_format() const;
};

// The tensors of a checkpoint of kind `target` made from `source`. Matrices get `format`, or keep
// theirs; GGUF files hold vectors as f32, Hugging Face folders block formats as bf16. Borrows the
// bytes of `source`. Throws IoError for weights that are missing or of another shape, Unsupported
// for a tensor that the target has no name for.
TensorPlan plan_tensors(const Checkpoint& source, const ModelConfig& config,
                        Checkpoint::Kind target, std::optional<BlockFormat> format);

// Whether a Hugging Face folder can hold a tensor in that format.
constexpr bool is_float_format(BlockFormat format) {
  return format == BlockFormat::kF32 || format == BlockFormat::kF16 || format == BlockFormat::kBF16;
}

}  // namespace perpend
