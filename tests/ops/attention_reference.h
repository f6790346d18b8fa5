#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>

#include <torch/torch.h>

#include "perpend/core/error.h"
#include "perpend/ops/attention.h"

namespace perpend {

// The pairs of a mask, bool [q_len, kv_len].
inline torch::Tensor dense(const Mask& mask, std::int64_t q_len, std::int64_t kv_len,
                           std::int64_t q_offset) {
  const torch::Tensor visible = torch::zeros({q_len, kv_len}, torch::kBool);
  for (std::int64_t q = 0; q < q_len; ++q) {
    for (std::int64_t k = 0; k < kv_len; ++k) {
      if (mask.visible(q_offset + q, k)) visible[q][k] = true;
    }
  }
  return visible;
}

// Attention over all pairs in float64, where the operands are; every query must see a key.
inline AttentionOutput reference(const torch::Tensor& q, const torch::Tensor& k,
                                 const torch::Tensor& v, const torch::Tensor& visible) {
  const std::int64_t group = q.size(1) / k.size(1);
  const torch::Tensor keys = k.to(torch::kFloat64).repeat_interleave(group, 1);
  const torch::Tensor values = v.to(torch::kFloat64).repeat_interleave(group, 1);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  const torch::Tensor scores = (torch::matmul(q.to(torch::kFloat64), keys.transpose(2, 3)) * scale)
                                   .masked_fill(visible.logical_not(), -INFINITY);
  return {torch::matmul(torch::softmax(scores, -1), values), torch::logsumexp(scores, -1)};
}

inline double relative_error(const torch::Tensor& found, const torch::Tensor& expected) {
  const torch::Tensor wide = expected.to(torch::kFloat64);
  return ((found.to(torch::kFloat64) - wide).norm() / wide.norm()).item<double>();
}

// The text of the Error that a call throws; "none" without.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

}  // namespace perpend
