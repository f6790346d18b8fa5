// Weights as tensors against f64 products of the same values, and against packed ones.

#include "perpend/nn/linear.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/nn/runtime.h"

namespace perpend {
namespace {

constexpr std::int64_t kIn = 96;

// Random rows stored in a format, and what they mean.
struct StoredWeight {
  StoredWeight(BlockFormat format, std::int64_t rows, std::uint64_t seed)
      : bytes(row_bytes(format, kIn) * static_cast<std::size_t>(rows)),
        source{format, rows, kIn, bytes.data()} {
    Random random(seed);
    std::vector<float> row(kIn);
    const std::size_t num_bytes = row_bytes(format, kIn);
    values = torch::empty({rows, kIn});
    for (std::int64_t i = 0; i < rows; ++i) {
      for (float& value : row) value = random.next_float() - 0.5F;
      const std::span to(bytes.data() + static_cast<std::size_t>(i) * num_bytes, num_bytes);
      quantize_row(format, row, to);
      dequantize_row(format, to, {values.data_ptr<float>() + i * kIn, kIn});
    }
  }

  std::vector<std::byte> bytes;
  WeightSource source;
  torch::Tensor values;
};

double error_of(const torch::Tensor& found, const torch::Tensor& expected) {
  const torch::Tensor difference = found.to(torch::kFloat64) - expected;
  return (difference.norm() / expected.norm()).item<double>();
}

class DenseLinear : public testing::Test {
 protected:
  // Of different formats: a tensor does not care.
  StoredWeight first_{BlockFormat::kQ4_0, 5, 1};
  StoredWeight second_{BlockFormat::kF16, 40, 2};
  std::vector<WeightSource> sources_ = {first_.source, second_.source};
  std::vector<float> bias_ = std::vector<float>(45, 0.25F);
  torch::Tensor weight_ = torch::cat({first_.values, second_.values}).to(torch::kFloat64);
  torch::Tensor x_ = torch::linspace(-1, 1, 7 * kIn).view({7, kIn});
  torch::Tensor expected_ = at::mm(x_.to(torch::kFloat64), weight_.t()) + 0.25;
  Runtime runtime_{2};
  Context& context_ = runtime_.context();
};

TEST_F(DenseLinear, HoldsExactlyWhatTheBlocksMean) {
  const Linear linear(sources_, bias_, torch::kFloat32, context_);
  EXPECT_EQ(linear.in_features(), kIn);
  EXPECT_EQ(linear.out_features(), 45);
  EXPECT_EQ(linear.num_bytes(), 45U * kIn * 4);
  EXPECT_TRUE(torch::equal(linear.weight().to(torch::kFloat64), weight_));
  const Linear rounded(sources_, {}, torch::kBFloat16, context_);
  EXPECT_TRUE(torch::equal(rounded.weight(), weight_.to(torch::kBFloat16)));
  EXPECT_FALSE(rounded.bias().defined());
}

TEST_F(DenseLinear, ProductsAndSumsOfEveryType) {
  for (const auto type : {torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    const Linear linear(sources_, bias_, type, context_);
    const double bound = type == torch::kFloat32 ? 1e-6 : 1e-2;
    const torch::Tensor x = x_.to(type);
    const torch::Tensor y = linear.forward(x, context_);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_LT(error_of(y, expected_), bound);
    const torch::Tensor wide = linear.forward_f32(x, context_);
    EXPECT_EQ(wide.scalar_type(), torch::kFloat32);
    EXPECT_LT(error_of(wide, expected_), bound);
    const torch::Tensor sum = torch::ones({7, 45});
    EXPECT_EQ(linear.add_to(sum, x, context_).data_ptr(), sum.data_ptr());
    EXPECT_LT(error_of(sum, expected_ + 1), bound);
  }
  const Linear linear(sources_, {}, torch::kBFloat16, context_);
  EXPECT_THROW(linear.forward(x_, context_), InvalidArgument);
}

TEST_F(DenseLinear, AgreesWithThePackedWeight) {
  const Linear packed(sources_, bias_, LinearMode::kF32, context_);
  const Linear tensor(sources_, bias_, torch::kFloat32, context_);
  const auto exact = [&](const Linear& linear) {
    return error_of(linear.forward(x_, context_), expected_);
  };
  EXPECT_LT(exact(packed), 1e-6);
  EXPECT_LT(exact(tensor), 1e-6);
  EXPECT_THROW(packed.weight(), Unsupported);
}

TEST_F(DenseLinear, RowsAreThoseOfTheWeight) {
  const torch::Tensor ids = torch::tensor({44, 0, 7, 7}, torch::kInt32);
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const Linear linear(sources_, {}, type, context_);
    const torch::Tensor rows = linear.rows(ids, context_);
    EXPECT_EQ(rows.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(rows, weight_.to(type).index_select(0, ids).to(torch::kFloat32)));
  }
}

TEST_F(DenseLinear, GradientsAreThoseOfFloat64) {
  const Linear linear(sources_, bias_, torch::kFloat32, context_);
  const torch::Tensor ids = torch::tensor({3, 40}, torch::kInt32);
  std::vector<torch::Tensor> inputs = {x_.clone(), linear.weight(), linear.bias()};
  std::vector<torch::Tensor> exact = {x_.to(torch::kFloat64), weight_,
                                      torch::full({45}, 0.25, torch::kFloat64)};
  for (auto* list : {&inputs, &exact}) {
    for (torch::Tensor& input : *list) input.requires_grad_();
  }
  const torch::Tensor sum = torch::ones({7, 45});
  const torch::Tensor y = linear.add_to(sum, inputs[0], context_);
  EXPECT_TRUE(torch::equal(sum, torch::ones({7, 45})));
  const auto found =
      torch::autograd::grad({y.square().sum() + linear.rows(ids, context_).exp().sum()}, inputs);
  const torch::Tensor exact_y = at::linear(exact[0], exact[1], exact[2]) + 1;
  const auto expected = torch::autograd::grad(
      {exact_y.square().sum() + exact[1].index_select(0, ids).exp().sum()}, exact);
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_LT(error_of(found[i], expected[i]), 1e-5);
}

TEST_F(DenseLinear, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Linear(sources_, bias_, torch::kFloat64, context_), InvalidArgument);
  EXPECT_THROW(Linear(sources_, std::vector<float>(3), torch::kFloat32, context_), InvalidArgument);
  EXPECT_THROW(Linear(torch::ones({2, 3}), torch::ones({3})), InvalidArgument);
  EXPECT_THROW(Linear(torch::ones({2})), InvalidArgument);
}

}  // namespace
}  // namespace perpend
