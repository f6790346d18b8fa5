#include "perpend/kernels/cpu/block_scores.h"

#include <cmath>
#include <vector>

#include "perpend/kernels/cpu/head_values.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

// The values of one head of one row as f32: in place where they are, else in `buffer`.
const float* head_values(const TensorView& heads, std::int64_t row, std::int64_t head,
                         std::vector<float>& buffer) {
  const std::int64_t first = row * heads.stride(0) + head * heads.stride(1);
  if (heads.dtype == DType::kF32) return heads.as<const float>() + first;
  widen(heads, first, buffer);
  return buffer.data();
}

void soften_head(const BlockScoresArgs& args, std::int64_t row, std::int64_t head) {
  const std::int64_t dim = args.q.size(2);
  const std::int64_t num_keys = args.k.size(0);
  const std::int64_t kv_head = head / (args.q.size(1) / args.k.size(1));
  const float scale = args.scale != 0.0F ? args.scale : 1.0F / std::sqrt(static_cast<float>(dim));
  std::vector<float> q_buffer(static_cast<std::size_t>(dim));
  std::vector<float> k_buffer(static_cast<std::size_t>(dim));
  const float* q = head_values(args.q, row, head, q_buffer);
  float* alpha = args.alpha.as<float>() + (row * args.q.size(1) + head) * num_keys;
  for (std::int64_t key = 0; key < num_keys; ++key) {
    alpha[key] = scale * dot(q, head_values(args.k, key, kv_head, k_buffer), dim);
  }
  soften({alpha, static_cast<std::size_t>(num_keys)});
}

float score_of(const BlockScoresArgs& args, std::int64_t block) {
  const std::int64_t num_keys = args.k.size(0);
  const std::int64_t num_rows = args.q.size(0) * args.q.size(1);
  const auto* indptr = args.indptr.as<const std::int32_t>();
  double sum = 0.0;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    const float* alpha = args.alpha.as<const float>() + row * num_keys;
    for (std::int64_t key = indptr[block]; key < indptr[block + 1]; ++key) sum += alpha[key];
  }
  return static_cast<float>(sum / static_cast<double>(num_rows));
}

}  // namespace

void cpu_block_scores(const BlockScoresArgs& args, Stream stream) {
  check_block_scores(args);
  const std::int64_t num_heads = args.q.size(1);
  stream.threads->parallel_for(args.q.size(0) * num_heads, 1, [&](Range range) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      soften_head(args, i / num_heads, i % num_heads);
    }
  });
  stream.threads->parallel_for(args.scores.size(0), 16, [&](Range range) {
    for (std::int64_t block = range.begin; block < range.end; ++block) {
      args.scores.as<float>()[block] = score_of(args, block);
    }
  });
}

}  // namespace perpend
