#include "perpend/models/pass_graphs.h"

#include <numeric>

#include <gtest/gtest.h>

#include "perpend/decode/text_generator.h"
#include "perpend/mask/mask_parser.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"
#include "perpend/models/named_shapes.h"
#include "perpend/models/pass_runner.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/recorded_graphs.h"

namespace perpend {
namespace {

constexpr std::int32_t kBanned = 7;

ModelConfig two_layers() {
  ModelConfig config = *named_shape("smollm2-135m");
  config.vocab_size = 90;
  config.model_dim = 32;
  config.ffn_dim = 48;
  config.num_layers = 2;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.rotary.rotary_dim = 8;
  config.context_length = 1024;
  return config;
}

// The rows of a sequence in a pass.
struct Part {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t num_keys = 0;
};

// Sequences of 128 tokens each that passes write over again.
class Canvases {
 public:
  Canvases(const Llama& model, Runtime& runtime, bool captures, std::size_t count)
      : context_(runtime.context()), store_(config(model, count)) {
    context_.kernels = captures ? &recording_kernels() : &cpu_kernels();
    context_.captures_decoding = captures;
    for (std::size_t i = 0; i < count; ++i) {
      sequences_.push_back(std::make_unique<KvSequence>(store_));
      EXPECT_TRUE(sequences_.back()->append(kTokens));
    }
    runner_ = std::make_unique<PassRunner>(model, context_);
  }

  // Logits of the rows, none of the banned token.
  torch::Tensor run(const std::vector<Part>& parts, const std::string& mask,
                    const std::vector<std::int32_t>& logit_rows, std::int32_t seed) {
    std::vector<KvRows> rows;
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      rows.push_back({sequences_[i].get(), parts[i].begin, parts[i].count, parts[i].num_keys});
      for (std::int64_t row = 0; row < parts[i].count; ++row) {
        tokens.push_back(static_cast<std::int32_t>((seed + 11 * row) % 90));
      }
    }
    const std::vector<Mask> masks(2, parse_mask(mask));
    const ForwardInput input{tokens, rows, masks, logit_rows};
    std::vector<torch::Tensor> logits;
    runner_->run(input, kBanned,
                 [&](std::int64_t, const torch::Tensor& some) { logits.push_back(some.clone()); });
    std::int64_t row = 0;
    const torch::Tensor all = torch::cat(logits);
    runner_->summarize(input, kBanned,
                       [&](std::int64_t first, std::span<const VocabularySummary> summaries) {
                         EXPECT_EQ(first, row);
                         for (const VocabularySummary& summary : summaries) {
                           EXPECT_EQ(summary.argmax, all[row++].argmax().item<std::int64_t>());
                         }
                       });
    EXPECT_EQ(row, std::ssize(logit_rows));
    return all;
  }

  const PassGraphs& graphs() const { return runner_->graphs(); }

  static constexpr std::int64_t kTokens = 128;

 private:
  static KvStoreConfig config(const Llama& model, std::size_t count) {
    return kv_store_config(model.config(), DType::kF32, kTokens * static_cast<std::int64_t>(count));
  }

  Context& context_;
  KvStore store_;
  std::vector<std::unique_ptr<KvSequence>> sequences_;
  std::unique_ptr<PassRunner> runner_;
};

class PassGraphsTest : public testing::Test {
 protected:
  std::vector<std::int32_t> first_rows(std::int32_t count) {
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  void expect_equal(const std::vector<Part>& parts, const std::string& mask,
                    const std::vector<std::int32_t>& logit_rows, std::int32_t seed) {
    const torch::Tensor expected = launched_.run(parts, mask, logit_rows, seed);
    const torch::Tensor found = captured_.run(parts, mask, logit_rows, seed);
    ASSERT_EQ(found.size(0), std::ssize(logit_rows));
    // Rows that are filled up make the product of the head another one.
    EXPECT_LT((found - expected).nan_to_num(0, 0, 0).abs().max().item<float>(), 1e-5);
    EXPECT_TRUE(torch::isinf(found.select(1, kBanned)).all().item<bool>());
  }

  ModelConfig config_ = two_layers();
  Runtime on_graphs_{1};
  Runtime on_launches_{1};
  Llama model_{config_, RandomWeights(config_, 5), torch::kFloat32, on_launches_.context()};
  Canvases captured_{model_, on_graphs_, true, 2};
  Canvases launched_{model_, on_launches_, false, 2};
};

// The life of blocks: prompts, the whole block, its sub-blocks, the finished block once more.
TEST_F(PassGraphsTest, StepsOfBlocksAreThoseOfLaunches) {
  const std::string mask = "block_causal(8)";
  expect_equal({{0, 32, 0}, {0, 24, 0}}, mask, {31, 55}, 1);
  std::int32_t seed = 2;
  for (std::int64_t block = 4; block < 8; ++block) {
    const std::int64_t a = 8 * block;
    const std::int64_t b = a - 8;
    for (std::int32_t masked = 16; masked > 10; masked -= 2) {
      expect_equal({{a, 8, 0}, {b, 8, 0}}, mask, first_rows(masked), seed++);
    }
    for (std::int32_t masked = 8; masked > 1; --masked) {
      expect_equal({{a + 4, 4, a + 8}, {b + 4, 4, b + 8}}, mask, first_rows(masked), seed++);
    }
    expect_equal({{a, 8, 0}, {b, 8, 0}}, mask, {7, 15}, seed++);
  }
  // 16 rows with 16 and with 2 logits, 8 rows with 8 and with 2, and the prompts, which run twice.
  EXPECT_EQ(captured_.graphs().num_graphs(), 5U);
}

// A mask that changes with every block has one graph as long as its plan has room.
TEST_F(PassGraphsTest, MasksMayChange) {
  expect_equal({{0, 32, 0}}, "causal", {31}, 1);
  for (std::int32_t block = 4; block < 10; ++block) {
    const std::string mask = concat("block_decode(8, ", 8 * block, ")");
    expect_equal({{8 * block, 8, 0}}, mask, first_rows(8), block);
  }
  EXPECT_EQ(captured_.graphs().num_graphs(), 2U);  // with that of the prompt
  const std::string apart = "heads(0: causal & window(3); rest: block_decode(8, 80))";
  expect_equal({{80, 8, 0}}, apart, first_rows(8), 3);
  expect_equal({{80, 8, 0}}, "block_decode(8, 80)", first_rows(8), 4);
  EXPECT_EQ(captured_.graphs().num_graphs(), 2U);
}

// What is captured once with room for logits of every row serves steps that want few of them.
TEST_F(PassGraphsTest, APassMayWantFewerLogitsThanItHasRoomFor) {
  Runtime runtime{1};
  const ModelConfig config = two_layers();
  KvStore store(kv_store_config(config, DType::kF32, 64));
  KvSequence sequence(store);
  ASSERT_TRUE(sequence.append(8));
  const KvRows rows{&sequence, 0, 4, 8};
  const std::vector<Mask> masks(2, parse_mask("all"));
  const std::vector<std::int32_t> tokens = {1, 2, 3, 4};
  const auto input = [&](const std::vector<std::int32_t>& logit_rows) {
    return ForwardInput{tokens, {&rows, 1}, masks, logit_rows};
  };
  const std::vector<std::int32_t> all = first_rows(4);
  const std::vector<std::int32_t> two = {1, 3};
  const std::vector<std::int32_t> five(5, 0);
  ForwardPass pass(size_of(input(all)), runtime.context());
  for (const auto& wanted : {all, two}) {
    pass.assign(input(wanted), runtime.context());
    ASSERT_EQ(pass.logit_rows().size(0), std::ssize(wanted));
    EXPECT_TRUE(pass.logit_rows().equal(torch::tensor(wanted)));
  }
  EXPECT_THROW(pass.assign(input(five), runtime.context()), std::logic_error);
}

TEST_F(PassGraphsTest, TheOldestGraphGoes) {
  const std::string mask = "causal";
  for (int round = 0; round < 2; ++round) {
    for (std::int64_t rows = 1; rows <= 40; ++rows) {
      expect_equal({{0, rows, 0}}, mask, {0}, static_cast<std::int32_t>(rows));
      EXPECT_LE(captured_.graphs().num_graphs(), PassGraphs::kMostGraphs);
    }
  }
  EXPECT_EQ(captured_.graphs().num_graphs(), PassGraphs::kMostGraphs);
}

TEST_F(PassGraphsTest, LongPassesAndPartsAreLaunched) {
  std::vector<KvRows> rows(1);
  const std::vector<std::int32_t> tokens(200, 1);
  const std::vector<std::int32_t> wanted = {0};
  const std::vector<Mask> masks(2);
  const auto repeats = [&](std::int64_t count, std::span<const std::int32_t> logit_rows,
                           int from_layer) {
    rows.front().count = count;
    ForwardInput input{std::span(tokens).first(static_cast<std::size_t>(count)), rows, masks,
                       logit_rows};
    input.from_layer = from_layer;
    return PassGraphs::repeats(input);
  };
  EXPECT_TRUE(repeats(128, wanted, 0));
  EXPECT_FALSE(repeats(129, wanted, 0));
  EXPECT_FALSE(repeats(8, {}, 0));
  EXPECT_FALSE(repeats(8, wanted, 1));
}

struct Diffusion {
  DiffusionAttention attention;
  CanvasCache cache;
};

// Whole answers, with every cache whose steps have few rows.
TEST(CapturedDecoding, AnswersOfDiffusionAreThoseOfLaunches) {
  const TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  TinyLlama{.num_layers = 4, .weight = TinyLlama::random(23)}.write(path);
  for (const Diffusion& kind : {Diffusion{DiffusionAttention::kBlock, CanvasCache::kBlock},
                                {DiffusionAttention::kBlock, CanvasCache::kSubBlock},
                                {DiffusionAttention::kContextCausal, CanvasCache::kBlock},
                                {DiffusionAttention::kFull, CanvasCache::kDual},
                                {DiffusionAttention::kFull, CanvasCache::kElastic}}) {
    std::vector<GenerateResult> results;
    for (const bool captures : {false, true}) {
      Runtime runtime{1};
      Context& context = runtime.context();
      if (captures) context.kernels = &recording_kernels();
      context.captures_decoding = captures;
      LoadOptions load;
      load.changes.diffusion = DiffusionConfig{kind.attention, 8, true, 3, ""};
      const LoadedModel model(path, LinearMode::kF32, context, load);
      TextGenerator generator(model, context, DType::kF32);
      GenerateOptions options{.max_tokens = 60};
      options.diffusion.cache = kind.cache;
      options.diffusion.rule.threshold = 0.01F;
      options.diffusion.elastic = {.gamma = 0.97F, .layers_together = 2};
      results.push_back(generator.generate({40, 41, 42, 43, 44}, options));
    }
    EXPECT_EQ(results[0].text, results[1].text);
    EXPECT_EQ(results[0].num_forwards, results[1].num_forwards);
    EXPECT_EQ(results[0].elastic_boundaries, results[1].elastic_boundaries);
    EXPECT_FALSE(results[0].text.empty());
  }
}

}  // namespace
}  // namespace perpend
