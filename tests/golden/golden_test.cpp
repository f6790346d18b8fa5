// The default model against `transformers` (make_goldens.py) and its quantised path against f32.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "perpend/decode/block_diffusion.h"
#include "perpend/decode/block_loop.h"
#include "perpend/decode/teacher_forcing.h"
#include "perpend/io/text_file.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/nn/runtime.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

std::string golden_path(const char* name) {
  return (std::filesystem::path(PERPEND_GOLDEN_FOLDER) / name).string();
}

struct Session {
  explicit Session(WeightForm form) : model(PERPEND_MODEL_FILE, form, runtime.context()) {}

  Runtime runtime;
  LoadedModel model;
};

// Sequences that advance together, keys in f32.
class Batch {
 public:
  Batch(Session& session, std::size_t count)
      : session_(session),
        masks_(static_cast<std::size_t>(config().num_layers), Mask::causal()),
        store_(kv_store_config(config(), DType::kF32, static_cast<std::int64_t>(count) * 256)) {
    for (std::size_t i = 0; i < count; ++i) {
      sequences_.push_back(std::make_unique<KvSequence>(store_));
    }
  }

  // Logits [all new tokens, vocab_size] after tokens[i] of each sequence i.
  torch::Tensor run(const std::vector<Tokens>& tokens) {
    Tokens all;
    std::vector<KvRows> rows;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      KvSequence& sequence = *sequences_[i];
      const auto count = static_cast<std::int64_t>(tokens[i].size());
      rows.push_back({&sequence, sequence.length(), count});
      EXPECT_TRUE(sequence.append(count));
      all.insert(all.end(), tokens[i].begin(), tokens[i].end());
    }
    std::vector<std::int32_t> logit_rows(all.size());
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    return session_.model.network()
        .forward({all, rows, masks_, logit_rows}, session_.runtime.context())
        .clone();
  }

 private:
  const ModelConfig& config() const { return session_.model.config(); }

  Session& session_;
  std::vector<Mask> masks_;
  KvStore store_;
  std::vector<std::unique_ptr<KvSequence>> sequences_;
};

// Two logits this close are a tie in f32. One position of the goldens has one: equal with AMX and
// AVX2, 1e-5 apart with AVX-512.
constexpr double kTie = 2e-5;

// |found - expected| / |expected| of the numbers that a golden kept.
class RelativeError {
 public:
  void add(double found, double expected) {
    error_ += (found - expected) * (found - expected);
    norm_ += expected * expected;
  }
  void add_strided(const torch::Tensor& row, const nlohmann::json& expected, std::int64_t step) {
    ASSERT_EQ(static_cast<std::int64_t>(expected.size()), (row.size(0) + step - 1) / step);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      add(row[static_cast<std::int64_t>(i) * step].item<double>(), expected[i].get<double>());
    }
  }
  double value() const { return std::sqrt(error_ / norm_); }

 private:
  double error_ = 0;
  double norm_ = 0;
};

class Golden : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    document_ = nlohmann::json::parse(read_text_file(golden_path("smollm2_goldens.json")));
    exact_ = std::make_unique<Session>(LinearMode::kF32);
  }
  static void TearDownTestSuite() { exact_.reset(); }

  static const nlohmann::json& goldens() { return document_.at("goldens"); }
  static std::vector<Tokens> prompts() {
    std::vector<Tokens> result;
    for (const auto& golden : goldens()) result.push_back(golden.at("ids").get<Tokens>());
    return result;
  }

  inline static nlohmann::json document_;
  inline static std::unique_ptr<Session> exact_;
};

TEST_F(Golden, TokenIdsAreThoseOfTransformers) {
  ASSERT_EQ(goldens().size(), 20U);
  for (const auto& golden : goldens()) {
    const EncodeOptions options{.add_special_tokens = false, .parse_special = true};
    EXPECT_EQ(exact_->model.tokenizer().encode(golden.at("prompt").get<std::string>(), options),
              golden.at("ids").get<Tokens>());
  }
}

TEST_F(Golden, LogitsInF32) {
  const auto step = document_.at("logit_step").get<std::int64_t>();
  const auto last_step = document_.at("last_logit_step").get<std::int64_t>();
  for (const auto& golden : goldens()) {
    const Tokens ids = golden.at("ids").get<Tokens>();
    const auto last = static_cast<std::int64_t>(ids.size()) - 1;
    const torch::Tensor logits = Batch(*exact_, 1).run({ids});
    RelativeError error;
    for (std::int64_t row = 0; row <= last; ++row) {
      const auto at = static_cast<std::size_t>(row);
      error.add_strided(logits[row], golden.at("logits").at(at), step);
      error.add(logits[row].logsumexp(0).item<double>(), golden.at("logsumexp").at(at));
      const double lead = logits[row].max().item<double>() -
                          logits[row][golden.at("top1").at(at).get<std::int64_t>()].item<double>();
      EXPECT_LT(lead, kTie) << golden.at("prompt") << " row " << row;
    }
    error.add_strided(logits[last], golden.at("last_logits"), last_step);
    EXPECT_LT(error.value(), 1e-4) << golden.at("prompt");
  }
}

// The same network with LibTorch's products.
TEST_F(Golden, LogitsOfTensorsAreThoseOfBlocks) {
  Session tensors(torch::kFloat32);
  const Tokens ids = goldens()[0].at("ids").get<Tokens>();
  const torch::Tensor expected = Batch(*exact_, 1).run({ids}).clone();
  const torch::Tensor found = Batch(tensors, 1).run({ids});
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

TEST_F(Golden, GreedyContinuationInF32) {
  std::vector<Tokens> next = prompts();
  std::vector<Tokens> found(next.size());
  Batch batch(*exact_, next.size());
  for (std::size_t step = 0; step < goldens()[0].at("greedy").size(); ++step) {
    const torch::Tensor best = batch.run(next).argmax(1);
    std::int64_t row = -1;
    for (std::size_t i = 0; i < next.size(); ++i) {
      row += static_cast<std::int64_t>(next[i].size());
      next[i] = {best[row].item<std::int32_t>()};
      found[i].push_back(next[i][0]);
    }
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i], goldens()[i].at("greedy").get<Tokens>()) << goldens()[i].at("prompt");
  }
}

// As a diffusion model whose blocks have one token, the network is the autoregressive one.
TEST_F(Golden, DiffusionByBlocksOfOneIsGreedyContinuation) {
  using enum DiffusionAttention;
  const LanguageModel& network = exact_->model.network();
  const ModelConfig& config = network.config();
  for (const auto& [attention, index] : {std::pair{kBlock, 0}, std::pair{kContextCausal, 1}}) {
    const auto& golden = goldens().at(static_cast<std::size_t>(index));
    const auto prompt = golden.at("ids").get<Tokens>();
    auto greedy = golden.at("greedy").get<Tokens>();
    greedy.resize(16);
    const DiffusionSetting setting = decide({attention, 32, true, 16, ""}, {.block_size = 1});
    const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers),
                                  context_mask(setting.model));
    KvStore store(kv_store_config(config, DType::kF32, 256));
    KvSequence sequence(store);
    ExactPolicy policy;
    BlockLoop loop(network, exact_->runtime.context(), sequence, policy, masks);
    BlockDiffusion denoiser(setting, {},
                            {.prompt_tokens = static_cast<std::int64_t>(prompt.size()),
                             .max_tokens = static_cast<std::int64_t>(greedy.size()),
                             .context_length = config.context_length,
                             .num_layers = config.num_layers,
                             .num_top_logprobs = 0,
                             .is_stop = {}});
    loop.push(prompt);
    while (loop.tokens().size() < prompt.size() + greedy.size()) loop.next_block(denoiser);
    const auto found = loop.tokens().subspan(prompt.size());
    EXPECT_EQ(Tokens(found.begin(), found.end()), greedy) << golden.at("prompt");
    EXPECT_EQ(denoiser.num_forwards(), static_cast<std::int64_t>(greedy.size()));
  }
}

TEST_F(Golden, QuantisedPathPredictsAsF32Does) {
  Session quantised(LinearMode::kQuantized);
  Tokens tokens = quantised.model.encode_text(read_text_file(golden_path("text.txt")));
  ASSERT_GE(tokens.size(), 8192U);
  tokens.resize(8192);
  const auto forced = [](Session& session, DType kv_dtype) {
    return TeacherForcing{.model = session.model,
                          .context = session.runtime.context(),
                          .kv_dtype = kv_dtype,
                          .layer_masks = {}};
  };
  const Agreement agreement =
      compare_teacher_forced(forced(quantised, DType::kF16), forced(*exact_, DType::kF32), tokens);
  EXPECT_GE(agreement.top1, 0.98);
  EXPECT_LE(agreement.mean_kl, 0.01);
  EXPECT_NEAR(std::exp(agreement.mean_nll - agreement.mean_nll_reference), 1.0, 0.005);
  EXPECT_LT(std::exp(agreement.mean_nll_reference), 8.0) << "the model does not read its text";
}

}  // namespace
}  // namespace perpend
