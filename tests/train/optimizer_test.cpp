#include "perpend/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "perpend/core/error.h"
#include "perpend/train/learning_rate.h"

namespace perpend {
namespace {

torch::Tensor ramp(double from, double to, torch::IntArrayRef shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return torch::linspace(from, to, count).view(shape);
}

void set_gradient(const torch::Tensor& tensor, const torch::Tensor& gradient) {
  tensor.mutable_grad() = gradient.to(tensor.scalar_type());
}

TEST(Optimizer, StepsAsLibTorchsAdamWDoes) {
  const torch::Tensor matrix = ramp(-1, 1, {4, 5});
  const torch::Tensor vector = ramp(0.5, 2, {7});
  Optimizer::Options options;
  options.weight_decay = 0.1;
  Optimizer ours({{"matrix", matrix}, {"vector", vector}}, options);

  torch::Tensor their_matrix = ramp(-1, 1, {4, 5}).requires_grad_(true);
  torch::Tensor their_vector = ramp(0.5, 2, {7}).requires_grad_(true);
  const auto theirs_of = [](const torch::Tensor& tensor, double decay) {
    return torch::optim::AdamW(
        {tensor},
        torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).eps(1e-8).weight_decay(decay));
  };
  auto with_decay = theirs_of(their_matrix, 0.1);
  auto without_decay = theirs_of(their_vector, 0.0);
  for (int step = 0; step < 5; ++step) {
    const torch::Tensor d_matrix = ramp(-0.3, 0.1 * step, {4, 5});
    const torch::Tensor d_vector = ramp(0.2, -0.4, {7});
    set_gradient(matrix, d_matrix);
    set_gradient(vector, d_vector);
    set_gradient(their_matrix, d_matrix);
    set_gradient(their_vector, d_vector);
    ours.accumulate();
    ours.step(1e-2);
    with_decay.step();
    without_decay.step();
  }
  EXPECT_TRUE(torch::allclose(matrix, their_matrix, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(vector, their_vector, 1e-5, 1e-6));
  EXPECT_FALSE(torch::allclose(matrix, ramp(-1, 1, {4, 5}), 1e-5, 1e-3));
}

TEST(Optimizer, StepsBelowTheRoundingOfTheWeightsAddUp) {
  const torch::Tensor weight = torch::ones({2, 2}, torch::kBFloat16);
  Optimizer optimizer({{"weight", weight}}, {});
  const torch::Tensor before = weight.detach().clone();
  for (int step = 0; step < 100; ++step) {
    set_gradient(weight, torch::ones({2, 2}));
    optimizer.accumulate();
    optimizer.step(1e-4);
    if (step == 0) {
      EXPECT_TRUE(torch::equal(weight, before));
    }
  }
  EXPECT_NEAR(weight[0][0].item<double>(), 0.99, 4e-3);
  EXPECT_TRUE(torch::equal(weight.detach(), optimizer.state()[0].tensor.to(torch::kBFloat16)));
}

TEST(Optimizer, AddsGradientsInF32) {
  const torch::Tensor weight = torch::zeros({1, 1}, torch::kBFloat16);
  Optimizer optimizer({{"weight", weight}}, {});
  for (const double gradient : {256.0, 1.0}) {  // bf16 would lose the second
    set_gradient(weight, torch::full({1, 1}, gradient));
    optimizer.accumulate();
  }
  EXPECT_EQ(optimizer.step(0).item<double>(), 257.0);
}

TEST(Optimizer, ClipsTheNormOfAllGradientsTogether) {
  for (const double clip : {0.0, 2.5, 100.0}) {
    const torch::Tensor a = torch::zeros({2, 1});
    const torch::Tensor b = torch::zeros({1});
    Optimizer::Options options;
    options.clip_norm = clip;
    options.beta1 = 0.0;  // exp_avg is the gradient itself
    Optimizer optimizer({{"a", a}, {"b", b}}, options);
    set_gradient(a, torch::tensor({{3.0F}, {0.0F}}));
    set_gradient(b, torch::tensor({4.0F}));
    optimizer.accumulate();
    EXPECT_NEAR(optimizer.step(0).item<double>(), 5.0, 1e-6);
    const double factor = clip == 2.5 ? 0.5 : 1.0;
    EXPECT_NEAR(optimizer.state()[1].tensor[0][0].item<double>(), 3 * factor, 1e-6);
    EXPECT_NEAR(optimizer.state()[4].tensor[0].item<double>(), 4 * factor, 1e-6);
  }
}

TEST(Optimizer, SaysWhatCanNotBeTrained) {
  const torch::Tensor weight = torch::zeros({1});
  EXPECT_THROW(Optimizer({}, {}), InvalidArgument);
  EXPECT_THROW(Optimizer({{"a", weight}, {"a", weight}}, {}), InvalidArgument);
  EXPECT_THROW(Optimizer({{"a", torch::zeros({1}, torch::kInt32)}}, {}), InvalidArgument);
}

TEST(LearningRate, WarmsUpAndFollowsItsShape) {
  LearningRate rate{.peak = 2.0, .end = 0.5, .warmup_steps = 4, .num_steps = 15};
  EXPECT_DOUBLE_EQ(rate.at(0), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(3), 2.0);
  EXPECT_DOUBLE_EQ(rate.at(4), 2.0);
  EXPECT_DOUBLE_EQ(rate.at(14), 2.0);
  rate.shape = LearningRate::Shape::kCosine;
  EXPECT_DOUBLE_EQ(rate.at(2), 1.5);
  EXPECT_DOUBLE_EQ(rate.at(4), 2.0);
  EXPECT_NEAR(rate.at(9), 1.25, 1e-12);  // half way
  EXPECT_NEAR(rate.at(14), 0.5, 1e-12);
  for (std::int64_t step = 4; step < 14; ++step) EXPECT_GT(rate.at(step), rate.at(step + 1));
}

}  // namespace
}  // namespace perpend
