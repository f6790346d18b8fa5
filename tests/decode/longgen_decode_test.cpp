// Models with LongGen's masks (arXiv:2410.01485) in prefill and decoding.

#include <gtest/gtest.h>

#include "perpend/cache/retained_policy.h"
#include "perpend/decode/text_generator.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kPage = 64;

class LongGenDecode : public testing::Test {
 protected:
  LoadedModel load(const ModelChanges& changes = {}) {
    const std::string path = folder_.file("tiny.gguf");
    TinyLlama{.num_layers = 4, .context_length = 2048, .weight = TinyLlama::random(23)}.write(path);
    return {path, LinearMode::kF32, runtime_.context(), {.changes = changes}};
  }
  Tokens tokens(std::size_t count) const {
    Random random(9);
    Tokens result(count);
    for (auto& token : result) token = static_cast<std::int32_t>(random.next_below(256));
    return result;
  }

  TemporaryFolder folder_;
  Runtime runtime_{1};
};

// A sequence that takes given tokens and yields the logits after them.
class Reader {
 public:
  Reader(const LoadedModel& model, Context& context)
      : model_(model),
        context_(context),
        masks_(default_masks(config())),
        store_(kv_store_config(config(), DType::kF32, config().context_length)),
        sequence_(store_),
        policy_(masks_, config().context_length, config().num_q_heads, config().num_kv_heads) {}

  std::vector<float> read(std::span<const std::int32_t> tokens) {
    const std::int64_t first = sequence_.length();
    const auto count = static_cast<std::int64_t>(tokens.size());
    EXPECT_TRUE(sequence_.append(count));
    const KvRows rows{&sequence_, first, count};
    const auto last = static_cast<std::int32_t>(count - 1);
    const torch::Tensor logits =
        model_.network().forward({tokens, {&rows, 1}, masks_, {&last, 1}}, context_);
    policy_.commit(sequence_, first + count);
    return {logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel()};
  }

 private:
  const ModelConfig& config() const { return model_.config(); }

  const LoadedModel& model_;
  Context& context_;
  std::vector<Mask> masks_;
  KvStore store_;
  KvSequence sequence_;
  RetainedPolicy policy_;
};

double relative_error(std::span<const float> found, std::span<const float> expected) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = double{found[i]} - expected[i];
    error += difference * difference;
    size += double{expected[i]} * expected[i];
  }
  return std::sqrt(error / size);
}

TEST_F(LongGenDecode, StepsFromAnyPlaceEqualAPrefill) {
  for (const char* preset :
       {"longgen-as(n_full=1, window=2)", "longgen-bs(n_full=1, window=2, stride=3)",
        "longgen-bs(n_full=0, window=1, stride=4, head_shift=auto)"}) {
    const LoadedModel model = load({.preset = preset});
    const Tokens all = tokens(12 * kPage);
    // From just before, on and just behind the border of a block, over three more of them.
    for (const std::int64_t start : {8 * kPage - 1, 8 * kPage, 8 * kPage + 7}) {
      Reader stepwise(model, runtime_.context());
      stepwise.read(std::span(all).first(static_cast<std::size_t>(start)));
      for (std::int64_t step = 1; step <= 3 * kPage; ++step) {
        const auto end = static_cast<std::size_t>(start + step);
        const std::vector<float> logits = stepwise.read(std::span(all).subspan(end - 1, 1));
        if (step % 37 != 0 && end % kPage > 1 && step != 3 * kPage) continue;
        Reader whole(model, runtime_.context());
        EXPECT_LT(relative_error(logits, whole.read(std::span(all).first(end))), 1e-5)
            << preset << " " << end;
      }
    }
  }
}

TEST_F(LongGenDecode, KeepsThePresetsShareOfTheKeys) {
  const Tokens prompt = tokens(1500);
  const auto generate = [&](const ModelChanges& changes) {
    const LoadedModel model = load(changes);
    return TextGenerator(model, runtime_.context(), DType::kF32)
        .generate(prompt, {.max_tokens = 30, .prefill_chunk = 128});
  };
  const GenerateResult dense = generate({});
  const GenerateResult hybrid = generate({.preset = "longgen-as(n_full=2, window=3)"});
  const std::int64_t page = dense.kv_bytes / (4 * 24);
  // 1529 tokens are 24 pages; a sparse layer holds a sink and a window of three.
  EXPECT_EQ(dense.kv_bytes, 4 * 24 * page);
  EXPECT_EQ(hybrid.kv_bytes, (2 * 24 + 2 * 4) * page);
  // Beside them one chunk of two pages, while it runs; two blocks of the window are whole then.
  EXPECT_LE(hybrid.kv_peak_bytes, (2 * 24 + 2 * (1 + 2 + 2)) * page);
}

TEST_F(LongGenDecode, EqualsDenseBitForBitWhereEveryBlockIsKept) {
  const Tokens prompt = tokens(1000);
  const auto samples = [&](const ModelChanges& changes) {
    const LoadedModel model = load(changes);
    const GenerateResult result =
        TextGenerator(model, runtime_.context(), DType::kF32)
            .generate(prompt, {.max_tokens = 40, .num_top_logprobs = 4, .prefill_chunk = 256});
    std::vector<float> logprobs;
    for (const Sample& sample : result.samples) {
      for (const TokenLogprob& token : sample.top) logprobs.push_back(token.logprob);
    }
    return logprobs;
  };
  const std::vector<float> dense = samples({});
  for (const char* preset :
       {"longgen-as", "longgen-as(sink=0, window=17)", "longgen-as(n_full=4, window=1)",
        "longgen-bs(n_full=0, window=17)", "longgen-bs(stride=1, window=1)"}) {
    EXPECT_EQ(samples({.preset = preset}), dense) << preset;
  }
  EXPECT_NE(samples({.preset = "longgen-as(window=2)"}), dense);
}

TEST_F(LongGenDecode, TheRopeBaseTurnsTheFrequencies) {
  const Tokens prompt = tokens(300);
  const auto text = [&](const ModelChanges& changes) {
    const LoadedModel model = load(changes);
    return TextGenerator(model, runtime_.context(), DType::kF32)
        .generate(prompt, {.max_tokens = 20, .num_top_logprobs = 1})
        .samples.back()
        .top.front()
        .logprob;
  };
  EXPECT_EQ(text({.rope_theta = 10000.0F}), text({}));
  EXPECT_NE(text({.rope_theta = 5e6F}), text({}));
  const LoadedModel longer = load({.context_length = 4096});
  EXPECT_NO_THROW(TextGenerator(longer, runtime_.context(), DType::kF32)
                      .generate(tokens(3000), {.max_tokens = 1}));
}

}  // namespace
}  // namespace perpend
