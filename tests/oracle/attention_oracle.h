#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace perpend::oracle {

// o = softmax(scale * q k^T) v of one head, straight from the definition, in f64.
//   q [q_len, dim], k and v [kv_len, dim]; visible(q_row, key) says which pairs count.
struct AttentionResult {
  std::vector<double> o;    // [q_len, dim]
  std::vector<double> lse;  // [q_len]
};

inline AttentionResult attention(const std::vector<double>& q, const std::vector<double>& k,
                                 const std::vector<double>& v, std::int64_t q_len,
                                 std::int64_t kv_len, std::int64_t dim, double scale,
                                 const std::function<bool(std::int64_t, std::int64_t)>& visible) {
  AttentionResult result;
  result.o.assign(static_cast<std::size_t>(q_len * dim), 0.0);
  result.lse.assign(static_cast<std::size_t>(q_len), -std::numeric_limits<double>::infinity());
  for (std::int64_t row = 0; row < q_len; ++row) {
    std::vector<double> scores(static_cast<std::size_t>(kv_len));
    double top = -std::numeric_limits<double>::infinity();
    for (std::int64_t key = 0; key < kv_len; ++key) {
      if (!visible(row, key)) continue;
      double dot = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        dot +=
            q[static_cast<std::size_t>(row * dim + d)] * k[static_cast<std::size_t>(key * dim + d)];
      }
      scores[static_cast<std::size_t>(key)] = scale * dot;
      top = std::max(top, scale * dot);
    }
    if (std::isinf(top)) continue;
    double sum = 0;
    for (std::int64_t key = 0; key < kv_len; ++key) {
      if (visible(row, key)) sum += std::exp(scores[static_cast<std::size_t>(key)] - top);
    }
    for (std::int64_t key = 0; key < kv_len; ++key) {
      if (!visible(row, key)) continue;
      const double p = std::exp(scores[static_cast<std::size_t>(key)] - top) / sum;
      for (std::int64_t d = 0; d < dim; ++d) {
        result.o[static_cast<std::size_t>(row * dim + d)] +=
            p * v[static_cast<std::size_t>(key * dim + d)];
      }
    }
    result.lse[static_cast<std::size_t>(row)] = top + std::log(sum);
  }
  return result;
}

}  // namespace perpend::oracle
