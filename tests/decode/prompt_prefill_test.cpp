// Prompts that share something with earlier ones, and layers that nobody needs: neither may change
// a bit of an answer.

#include "perpend/decode/prompt_prefill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/cache/retained_policy.h"
#include "perpend/decode/autoregressive.h"
#include "perpend/decode/text_generator.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/nn/runtime.h"
#include "tests/cache/block_masks.h"
#include "tests/campaign.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kBlock = 64;
constexpr std::int64_t kPlenty = std::int64_t{1} << 30;

class PromptPrefillTest : public testing::Test {
 protected:
  explicit PromptPrefillTest(std::int64_t num_layers = 6)
      : num_layers_(num_layers), model_(load(num_layers)) {}

  LoadedModel load(std::int64_t num_layers) {
    const std::string path = folder_.file("tiny.gguf");
    TinyLlama{.num_layers = num_layers, .context_length = 1024, .weight = TinyLlama::random(5)}
        .write(path);
    return {path, LinearMode::kF32, runtime_.context()};
  }
  TextGenerator generator(std::int64_t prefix_bytes) {
    return {model_, runtime_.context(), DType::kF16, prefix_bytes};
  }
  // Two new tokens with their log-probabilities: of the prompt's last row and of one step more.
  GenerateOptions options(std::vector<Mask> masks, std::int64_t chunk = kBlock) const {
    return {.max_tokens = 2,
            .num_top_logprobs = 2,
            .layer_masks = std::move(masks),
            .prefill_chunk = chunk,
            .reuse_decoded = false};
  }
  Tokens random_tokens(Random& random, std::size_t count) const {
    Tokens tokens(count);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random.next_below(256));
    return tokens;
  }
  std::vector<Mask> masks(std::initializer_list<const char*> texts) const {
    std::vector<Mask> result;
    for (const char* text : texts) result.push_back(parse_mask(text));
    return result;
  }

  TemporaryFolder folder_;
  Runtime runtime_{1};
  std::int64_t num_layers_;
  LoadedModel model_;
};

std::vector<std::pair<std::int32_t, float>> bits_of(std::span<const Sample> samples) {
  std::vector<std::pair<std::int32_t, float>> bits;
  for (const Sample& sample : samples) {
    for (const TokenLogprob& token : sample.top) bits.emplace_back(token.token, token.logprob);
  }
  return bits;
}

TEST_F(PromptPrefillTest, EditedPromptsHaveTheAnswersOfAGeneratorWithoutAPast) {
  Random random(31);
  for (int trial = num_trials(4); trial > 0; --trial) {
    const std::int64_t chunk = kBlock * static_cast<std::int64_t>(1 + random.next_below(2));
    const GenerateOptions wanted =
        options(random_layer_masks(random, static_cast<int>(num_layers_), chunk), chunk);
    // Room for everything, or for a part only.
    TextGenerator warm = generator(random.next_below(2) == 0 ? kPlenty : 700'000);
    Tokens prompt = random_tokens(random, 650 + random.next_below(100));
    for (int edit = 0; edit < 7; ++edit) {
      TextGenerator cold = generator(0);
      const GenerateResult expected = cold.generate(prompt, wanted);
      const GenerateResult found = warm.generate(prompt, wanted);
      ASSERT_EQ(bits_of(found.samples), bits_of(expected.samples)) << "edit " << edit;
      EXPECT_LE(found.prefill_layer_tokens, expected.prefill_layer_tokens);
      EXPECT_EQ(found.kv_bytes, expected.kv_bytes);
      switch (random.next_below(4)) {
        case 0:  // other tokens at the end, perhaps fewer
          prompt.resize(100 + random.next_below(prompt.size() - 99));
          [[fallthrough]];
        case 1: {
          const Tokens more = random_tokens(random, random.next_below(150));
          prompt.insert(prompt.end(), more.begin(), more.end());
          prompt.resize(std::min<std::size_t>(prompt.size(), 900));
          break;
        }
        default:
          prompt[random.next_below(prompt.size())] ^= 1;
      }
    }
  }
}

TEST_F(PromptPrefillTest, APromptThatWasSeenRunsItsLastBlockOnly) {
  TextGenerator warm = generator(kPlenty);
  Random random(1);
  const Tokens prompt = random_tokens(random, 10 * kBlock + 5);
  const GenerateOptions wanted = options({});
  EXPECT_EQ(warm.generate(prompt, wanted).prefill_layer_tokens, (10 * kBlock + 5) * 6);
  const GenerateResult again = warm.generate(prompt, wanted);
  EXPECT_EQ(again.cached_tokens, 10 * kBlock);
  EXPECT_EQ(again.prefill_layer_tokens, 5 * 6);
  // Under causal masks an edit runs all blocks from its own on.
  Tokens edited = prompt;
  edited[7 * kBlock + 3] ^= 1;
  const GenerateResult after = warm.generate(edited, wanted);
  EXPECT_EQ(after.cached_tokens, 7 * kBlock);
  EXPECT_EQ(after.prefill_layer_tokens, (3 * kBlock + 5) * 6);
  // The first prompt is still there.
  EXPECT_EQ(warm.generate(prompt, wanted).cached_tokens, 10 * kBlock);
}

TEST_F(PromptPrefillTest, AnEarlyEditRunsWhatSeesItThroughSomeChainOfLayers) {
  const char* sparse = "longgen_sink(64, 1, 2)";
  Random random(2);
  const Tokens prompt = random_tokens(random, 12 * kBlock + 1);
  Tokens edited = prompt;
  edited[2 * kBlock] ^= 1;
  const auto layer_blocks = [&](const std::vector<Mask>& masks) {
    TextGenerator warm = generator(kPlenty);
    warm.generate(prompt, options(masks));
    return (warm.generate(edited, options(masks)).prefill_layer_tokens - num_layers_) / kBlock;
  };
  // Sparse layers alone carry block 2 one block further each. Of the blocks that it reaches, 2 to
  // 7, nothing later needs any but those before the last two.
  const std::vector<Mask> all_sparse(6, parse_mask(sparse));
  EXPECT_LT(layer_blocks(all_sparse), 6 * 6);
  // Two sparse layers carry it to block 4; then two full layers carry it to all that follow, whose
  // sparse layers below are not run again.
  const std::int64_t hourglass =
      layer_blocks(masks({sparse, sparse, "causal", "causal", sparse, sparse}));
  EXPECT_EQ(hourglass, 3 * 4 + 7 * 2 + 1 + 2);
}

TEST_F(PromptPrefillTest, LayersThatNobodyNeedsAreLeftOut) {
  const std::vector<Mask> hybrid =
      masks({"longgen_sink(64, 0, 2)", "longgen_sink(64, 0, 2)", "causal", "causal",
             "longgen_sink(64, 0, 2)", "longgen_sink(64, 0, 2)"});
  Random random(3);
  const Tokens prompt = random_tokens(random, 10 * kBlock + 9);
  const ModelConfig& config = model_.config();
  const auto answer = [&](bool planned) {
    KvStore store(kv_store_config(config, DType::kF32, config.context_length));
    KvSequence sequence(store);
    RetainedPolicy policy(hybrid, config.context_length, config.num_q_heads, config.num_kv_heads);
    PromptPrefill prefill({model_.network(), runtime_.context(), sequence, policy, hybrid}, kBlock);
    BlockLoop loop(model_.network(), runtime_.context(), sequence, policy, hybrid, kBlock,
                   planned ? &prefill : nullptr);
    loop.push(prompt);
    EXPECT_TRUE(loop.prefill());
    if (planned) {
      EXPECT_EQ(prefill.layer_tokens(), kBlock * (10 * 4 + 1 + 2));
    }
    Autoregressive denoiser({}, 2);
    std::vector<Sample> samples;
    for (int i = 0; i < 100; ++i) samples.push_back(loop.next_block(denoiser).front());
    return bits_of(samples);
  };
  EXPECT_EQ(answer(true), answer(false));
}

TEST_F(PromptPrefillTest, AStoppedPrefillLeavesNoHoles) {
  const std::vector<Mask> hybrid =
      masks({"causal", "longgen_sink(64, 0, 2)", "longgen_sink(64, 0, 2)", "longgen_sink(64, 0, 2)",
             "longgen_sink(64, 0, 2)", "longgen_sink(64, 0, 2)"});
  Random random(4);
  const Tokens prompt = random_tokens(random, 12 * kBlock);
  GenerateOptions wanted = options(hybrid);
  wanted.reuse_decoded = true;
  GenerateCallbacks callbacks;
  callbacks.on_prefill = [](std::int64_t done, std::int64_t) { return done < 4 * kBlock; };
  for (const std::int64_t bytes : {std::int64_t{0}, kPlenty}) {
    TextGenerator stopped = generator(bytes);
    EXPECT_EQ(stopped.generate(prompt, wanted, callbacks).finish_reason, FinishReason::kCancelled);
    Tokens next = prompt;
    next.push_back('x');
    TextGenerator cold = generator(0);
    EXPECT_EQ(bits_of(stopped.generate(next, wanted).samples),
              bits_of(cold.generate(next, wanted).samples));
  }
}

TEST_F(PromptPrefillTest, TheLimitBoundsWhatIsKept) {
  Random random(6);
  const std::int64_t limit = 300'000;
  TextGenerator warm = generator(limit);
  const GenerateOptions wanted = options({});
  for (int i = 0; i < 4; ++i) {
    const GenerateResult result = warm.generate(random_tokens(random, 500), wanted);
    EXPECT_LE(result.kv_peak_bytes, result.kv_exact_bytes + limit);
  }
  EXPECT_THROW(generator(-1), InvalidArgument);
}

}  // namespace
}  // namespace perpend
