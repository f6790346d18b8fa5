// One network with its weights in blocks and as tensors.

#include "perpend/models/llama.h"

#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/pass_runner.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

class LlamaForms : public testing::Test {
 protected:
  LlamaForms() { TinyLlama{.weight = TinyLlama::random(5)}.write(path_); }

  Llama load(WeightForm form) {
    const Checkpoint checkpoint = Checkpoint::open(path_);
    const ModelConfig config = read_model_config(checkpoint);
    return {config, WeightReader(checkpoint, config), form, runtime_.context()};
  }

  // Hands run() a pass over `tokens` that wants all logits.
  template <class Run>
  auto with_pass(const Llama& model, const std::vector<std::int32_t>& tokens, Run run) {
    const ModelConfig& config = model.config();
    KvStore store(kv_store_config(config, DType::kF32, 512));
    KvSequence sequence(store);
    EXPECT_TRUE(sequence.append(static_cast<std::int64_t>(tokens.size())));
    const KvRows rows{&sequence, 0, sequence.length()};
    const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers), Mask::causal());
    std::vector<std::int32_t> wanted(tokens.size());
    std::iota(wanted.begin(), wanted.end(), 0);
    return run(ForwardInput{tokens, {&rows, 1}, masks, wanted});
  }
  torch::Tensor logits(const Llama& model, const std::vector<std::int32_t>& tokens) {
    return with_pass(model, tokens, [&](const ForwardInput& input) {
      return model.forward(input, runtime_.context()).clone();
    });
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("tiny.gguf");
  Runtime runtime_{2};
};

TEST_F(LlamaForms, TensorsGiveTheLogitsOfBlocks) {
  std::vector<std::int32_t> tokens(150);
  std::iota(tokens.begin(), tokens.end(), 20);
  const torch::Tensor expected = logits(load(LinearMode::kF32), tokens);
  const torch::Tensor found = logits(load(torch::kFloat32), tokens);
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

TEST_F(LlamaForms, SummariesAreThoseOfTheLogits) {
  const Llama model = load(LinearMode::kF32);
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5};
  const torch::Tensor expected = logits(model, tokens);
  PassRunner runner(model, runtime_.context());
  with_pass(model, tokens, [&](const ForwardInput& input) {
    std::int64_t row = 0;
    for (const VocabularySummary& summary : runner.summarize(input)) {
      EXPECT_EQ(summary.argmax, expected[row].argmax().item<std::int64_t>());
      EXPECT_NEAR(summary.logsumexp, expected[row].logsumexp(0).item<double>(), 1e-5);
      ++row;
    }
    EXPECT_EQ(row, 5);
  });
}

// A few rows at a time, and without the token that must not come out.
TEST_F(LlamaForms, VisitedLogitsAreTheLogits) {
  const Llama model = load(LinearMode::kF32);
  std::vector<std::int32_t> tokens(75);
  std::iota(tokens.begin(), tokens.end(), 20);
  torch::Tensor expected = logits(model, tokens);
  const std::int32_t banned = expected[70].argmax().item<std::int32_t>();
  expected.select(1, banned).fill_(-std::numeric_limits<float>::infinity());
  PassRunner runner(model, runtime_.context());
  with_pass(model, tokens, [&](const ForwardInput& input) {
    std::int64_t next = 0;
    runner.run(input, banned, [&](std::int64_t first, const torch::Tensor& rows) {
      EXPECT_EQ(first, next);
      EXPECT_LE(rows.size(0), 32);
      EXPECT_TRUE(torch::allclose(rows, expected.narrow(0, first, rows.size(0)), 1e-5, 1e-5));
      next += rows.size(0);
    });
    EXPECT_EQ(next, 75);
    runner.summarize(input, banned,
                     [&](std::int64_t first, std::span<const VocabularySummary> rows) {
                       for (const VocabularySummary& row : rows) {
                         EXPECT_NE(row.argmax, banned);
                         EXPECT_EQ(row.argmax, expected[first++].argmax().item<std::int64_t>());
                       }
                     });
  });
}

TEST_F(LlamaForms, WhatHasNoGraphsSaysSo) {
  const Llama model = load(torch::kFloat32);
  with_pass(model, {1}, [&](const ForwardInput& input) {
    Workspace workspace;
    EXPECT_THROW(
        DecodeGraph(model, input, kind_of(input, 512, kNoToken), workspace, runtime_.context()),
        Unsupported);
  });
}

TEST_F(LlamaForms, ParametersAreAllTensorsOnce) {
  const Llama model = load(torch::kFloat32);
  std::int64_t values = 0;
  for (const ModelParameter& parameter : model.parameters()) {
    std::int64_t rows = 0;
    for (const WeightRole role : parameter.roles) {
      const auto shape = weight_shape(model.config(), role);
      rows += shape.front();
      if (!parameter.is_bias && shape.size() == 2) {
        EXPECT_EQ(parameter.tensor.size(1), shape.back());
      }
    }
    EXPECT_EQ(parameter.tensor.size(0), rows);
    values += parameter.tensor.numel();
  }
  const Checkpoint checkpoint = Checkpoint::open(path_);
  std::int64_t expected = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    expected += std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1},
                                std::multiplies<>());
  }
  EXPECT_EQ(values, expected);
  EXPECT_THROW(load(LinearMode::kQuantized).parameters(), Unsupported);
}

}  // namespace
}  // namespace perpend
