// Block scores against their formula in f64.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

struct Case {
  std::int64_t rows = 2;
  std::int64_t num_q_heads = 8;
  std::int64_t num_kv_heads = 2;
  std::int64_t head_dim = 20;
  std::vector<std::int32_t> indptr = {0, 5, 6, 6, 40, 41, 100};
  DType dtype = DType::kF32;
  float amplitude = 2;
  float scale = 0;
};

struct Result {
  std::vector<float> alpha;
  std::vector<float> scores;
};

// Random values, as f32 and in the memory of a kernel.
class Values {
 public:
  Values(std::int64_t count, const Case& c, Random& random) : dtype_(c.dtype) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = (2 * random.next_float() - 1) * c.amplitude;
      bits_.push_back(dtype_ == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value));
      if (dtype_ == DType::kF32) values_.push_back(value);
      if (dtype_ == DType::kF16) values_.push_back(f16_to_f32(bits_.back()));
      if (dtype_ == DType::kBF16) values_.push_back(bf16_to_f32(bits_.back()));
    }
  }
  TensorView view(const Dims& shape) {
    void* data = dtype_ == DType::kF32 ? static_cast<void*>(values_.data()) : bits_.data();
    return TensorView::dense(data, dtype_, shape);
  }
  double at(std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }

 private:
  DType dtype_;
  std::vector<float> values_;
  std::vector<std::uint16_t> bits_;
};

struct Operands {
  Operands(const Case& given, Random& random)
      : c(given),
        num_keys(given.indptr.back()),
        q(c.rows * c.num_q_heads * c.head_dim, c, random),
        k(num_keys * c.num_kv_heads * c.head_dim, c, random) {}

  Result run(int num_threads) {
    Result result{
        std::vector<float>(static_cast<std::size_t>(c.rows * c.num_q_heads * num_keys), NAN),
        std::vector<float>(c.indptr.size() - 1, NAN)};
    ThreadPool pool(num_threads);
    cpu_kernels().fused.block_scores(arguments(result), {&pool});
    return result;
  }

  BlockScoresArgs arguments(Result& result) {
    return {.q = q.view({c.rows, c.num_q_heads, c.head_dim}),
            .k = k.view({num_keys, c.num_kv_heads, c.head_dim}),
            .indptr = TensorView::dense(c.indptr.data(), DType::kI32,
                                        {static_cast<std::int64_t>(c.indptr.size())}),
            .alpha = TensorView::dense(result.alpha.data(), {c.rows, c.num_q_heads, num_keys}),
            .scores = TensorView::dense(result.scores.data(),
                                        {static_cast<std::int64_t>(result.scores.size())}),
            .scale = c.scale};
  }

  double z(std::int64_t row, std::int64_t head, std::int64_t key) const {
    const std::int64_t kv_head = head * c.num_kv_heads / c.num_q_heads;
    double sum = 0;
    for (std::int64_t d = 0; d < c.head_dim; ++d) {
      sum += q.at((row * c.num_q_heads + head) * c.head_dim + d) *
             k.at((key * c.num_kv_heads + kv_head) * c.head_dim + d);
    }
    return c.scale != 0 ? sum * c.scale : sum / std::sqrt(static_cast<double>(c.head_dim));
  }

  // alpha of one row and head, and the largest score that it came from.
  std::pair<std::vector<double>, double> softmax(std::int64_t row, std::int64_t head) const {
    std::vector<double> alpha;
    for (std::int64_t key = 0; key < num_keys; ++key) alpha.push_back(z(row, head, key));
    const auto [least, most] = std::minmax_element(alpha.begin(), alpha.end());
    const double max = *most;
    const double size = std::max(std::abs(*least), std::abs(*most));
    double sum = 0;
    for (double& value : alpha) sum += value = std::exp(value - max);
    for (double& value : alpha) value /= sum;
    return {alpha, size};
  }

  Case c;
  std::int64_t num_keys;
  Values q;
  Values k;
};

void expect_formula(const Case& c, std::uint64_t seed) {
  Random random(seed);
  Operands operands(c, random);
  const Result found = operands.run(2);
  std::vector<double> expected(found.scores.size());
  std::size_t at = 0;
  double tolerance = 0;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    for (std::int64_t head = 0; head < c.num_q_heads; ++head) {
      const auto [alpha, size] = operands.softmax(row, head);
      // A score is rounded to f32; its exponential is off by that much.
      tolerance = std::max(tolerance, 1e-6 * (4 + size));
      for (const double value : alpha) {
        EXPECT_NEAR(found.alpha[at], value, tolerance * value + 1e-9);
        ++at;
      }
      for (std::size_t b = 0; b < expected.size(); ++b) {
        for (std::int32_t key = c.indptr[b]; key < c.indptr[b + 1]; ++key) {
          expected[b] +=
              alpha[static_cast<std::size_t>(key)] / static_cast<double>(c.rows * c.num_q_heads);
        }
      }
    }
  }
  double sum = 0;
  for (std::size_t b = 0; b < expected.size(); ++b) {
    EXPECT_NEAR(found.scores[b], expected[b], tolerance * expected[b] + 1e-9) << b;
    sum += found.scores[b];
  }
  EXPECT_NEAR(sum, 1.0, 1e-6);
}

TEST(BlockScores, FollowTheirFormula) {
  expect_formula({}, 1);
  expect_formula({.rows = 1, .num_q_heads = 1, .num_kv_heads = 1, .head_dim = 1, .indptr = {0, 1}},
                 2);
  expect_formula({.rows = 3, .num_q_heads = 9, .num_kv_heads = 3, .head_dim = 64}, 3);
  expect_formula({.head_dim = 33, .scale = 0.7F}, 4);
  expect_formula({.dtype = DType::kF16}, 5);
  expect_formula({.dtype = DType::kBF16}, 6);
  // Scores of hundreds: only the largest exponential is one.
  expect_formula({.head_dim = 16, .indptr = {0, 3, 7, 20}, .amplitude = 12, .scale = 0.25F}, 7);
}

TEST(BlockScores, ThreadsChangeNoBit) {
  Random random(8);
  Operands operands({}, random);
  const Result one = operands.run(1);
  const Result three = operands.run(3);
  EXPECT_EQ(one.scores, three.scores);
  EXPECT_EQ(one.alpha, three.alpha);
}

TEST(BlockScores, WrongOperandsAreRefused) {
  Random random(9);
  ThreadPool pool(1);
  const auto refused = [&](const Case& c, auto change) {
    Operands operands(c, random);
    Result result{std::vector<float>(10'000), std::vector<float>(c.indptr.size() - 1)};
    BlockScoresArgs args = operands.arguments(result);
    change(args);
    EXPECT_THROW(cpu_kernels().fused.block_scores(args, {&pool}), InvalidArgument);
  };
  const auto nothing = [](BlockScoresArgs&) {};
  refused({.num_q_heads = 3}, nothing);
  refused({.indptr = {0, 7, 6, 100}}, nothing);
  refused({.indptr = {1, 7, 60, 100}}, nothing);
  refused({}, [](BlockScoresArgs& args) { args.alpha.shape[2] -= 1; });
  refused({}, [](BlockScoresArgs& args) { args.k.dtype = DType::kF16; });
  refused({}, [](BlockScoresArgs& args) { args.indptr.shape[0] -= 1; });
}

}  // namespace
}  // namespace perpend
