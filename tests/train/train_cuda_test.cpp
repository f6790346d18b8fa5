// Training on a GPU in bf16 against the CPU in f32, from the same weights. Skips where LibTorch
// finds no GPU, and where the CUDA kernels are not built.

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"
#include "perpend/nn/device_choice.h"
#include "perpend/train/block_rank_loss.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

class TrainCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_kernels().attention.forward == nullptr) GTEST_SKIP() << "no CUDA kernels";
    try {
      on_gpu_ = std::make_unique<Side>(choose_device("cuda"), torch::kBFloat16);
    } catch (const Unsupported& error) {
      GTEST_SKIP() << error.what();
    }
    on_cpu_ = std::make_unique<Side>(Device{}, torch::kFloat32);
    const at::NoGradGuard no_grad;
    const auto from = on_gpu_->tensors();
    const auto to = on_cpu_->tensors();
    for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_(from[i].tensor);
  }

  struct Side {
    Side(Device device, torch::ScalarType type) : runtime(device, 2) {
      ModelConfig config = TinyModel::shape();
      config.context_length = 512;
      config.model_dim = 128;
      config.head_dim = 64;
      config.rotary.rotary_dim = 64;
      llama = std::make_unique<Llama>(config, RandomWeights(config, 1), type, runtime.context());
    }

    std::vector<TrainedTensor> tensors() const {
      std::vector<TrainedTensor> list;
      for (const auto& [parts, tensor] : llama->named_parameters()) {
        list.push_back({parts.front().name, tensor});
      }
      return list;
    }

    Trainer trainer(const std::vector<TrainingSequence>& sequences,
                    std::vector<WeightedLoss> losses, const Mask& mask, bool recompute,
                    double beta1) const {
      TrainerOptions options;
      options.batch = {.sequences = 2, .tokens = 0, .shuffle = false, .seed = 1};
      options.learning_rate.peak = 2e-3;
      options.optimizer.beta1 = beta1;
      options.recompute = recompute;
      return {*llama,
              tensors(),
              std::make_shared<MemoryDataset>(sequences),
              std::move(losses),
              std::vector<Mask>(3, mask),
              options};
    }

    Runtime runtime;
    std::unique_ptr<Llama> llama;
  };

  std::unique_ptr<Side> on_gpu_;
  std::unique_ptr<Side> on_cpu_;
};

TEST_F(TrainCuda, GradientsAreThoseOfTheCpu) {
  auto prompts = random_sequences({200, 300}, 13);
  for (TrainingSequence& prompt : prompts) {
    const auto length = static_cast<std::int32_t>(prompt.tokens.size());
    for (std::int32_t i = 0; i < length; ++i) prompt.labels["doc"].push_back(i * 5 / length);
    prompt.lists = {{"signals", {length - 2, length - 1}}, {"positives", {2}}};
  }
  const Mask mask = parse_mask("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 4))");
  auto losses = next_token();
  losses.push_back({std::make_shared<BlockRankLoss>(1, 0.05), 0.1});
  // Without a beta the first moment is the gradient itself.
  Trainer found = on_gpu_->trainer(prompts, losses, mask, /*recompute=*/true, /*beta1=*/0.0);
  Trainer expected = on_cpu_->trainer(prompts, losses, mask, /*recompute=*/false, /*beta1=*/0.0);
  EXPECT_NEAR(found.step().loss.item<double>(), expected.step().loss.item<double>(), 2e-2);
  const auto found_state = found.optimizer().state();
  const auto expected_state = expected.optimizer().state();
  for (std::size_t i = 1; i < found_state.size(); i += 3) {
    EXPECT_LT(error_between(found_state[i].tensor.cpu(), expected_state[i].tensor), 5e-2)
        << found_state[i].name;
  }
}

TEST_F(TrainCuda, LossFalls) {
  std::vector<TrainingSequence> sequences(2);
  for (int i = 0; i < 200; ++i) {
    sequences[0].tokens.push_back(i * i % 13);
    sequences[1].tokens.push_back(i * 3 % 7);
  }
  Trainer trainer =
      on_gpu_->trainer(sequences, next_token(), Mask::causal(), /*recompute=*/false, /*beta1=*/0.9);
  const double first = trainer.step().loss.item<double>();
  for (int i = 0; i < 60; ++i) trainer.step();
  EXPECT_GT(first, 3.0);
  EXPECT_LT(trainer.step().loss.item<double>(), 0.2);
}

}  // namespace
}  // namespace perpend
