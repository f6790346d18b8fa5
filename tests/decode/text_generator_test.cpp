#include "perpend/decode/text_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/utf8.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/exact_logprobs.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

Tokens tokens_of(const GenerateResult& result) {
  Tokens tokens;
  for (const Sample& sample : result.samples) tokens.push_back(sample.chosen.token);
  return tokens;
}

Tokens joined(Tokens tokens, const Tokens& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

class TextGeneratorTest : public testing::Test {
 protected:
  LoadedModel load(const TinyLlama& llama) {
    const std::string path = folder_.file("tiny.gguf");
    llama.write(path);
    return {path, LinearMode::kF32, runtime_.context()};
  }
  TextGenerator generator(const LoadedModel& model) {
    return {model, runtime_.context(), DType::kF32};
  }

  TemporaryFolder folder_;
  Runtime runtime_{1};
  const Tokens prompt_ = Tokens{'O', 'n', 'c', 'e', ' ', 'u', 'p', 'o', 'n'};
};

// --- A network with random weights

class RandomNetwork : public TextGeneratorTest {
 protected:
  LoadedModel model_ = load({.weight = TinyLlama::random(11)});
  TextGenerator generator_ = generator(model_);
};

TEST_F(RandomNetwork, GreedyTextIsThatOfTheNetworkWithoutACache) {
  const GenerateResult result =
      generator_.generate(prompt_, {.max_tokens = 80, .num_top_logprobs = 3});
  ASSERT_EQ(result.samples.size(), 80U);
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  Tokens tokens = prompt_;
  for (const Sample& sample : result.samples) {
    const std::vector<double> exact = exact_logprobs(model_, tokens, runtime_.context());
    const auto best = std::max_element(exact.begin(), exact.end()) - exact.begin();
    ASSERT_EQ(sample.chosen.token, best) << "token " << tokens.size();
    ASSERT_NEAR(sample.chosen.logprob, exact[static_cast<std::size_t>(best)], 1e-4);
    ASSERT_EQ(sample.top.size(), 3U);
    EXPECT_EQ(sample.top[0].token, best);
    for (const TokenLogprob& other : sample.top) {
      EXPECT_NEAR(other.logprob, exact[static_cast<std::size_t>(other.token)], 1e-4);
    }
    tokens.push_back(sample.chosen.token);
  }
}

TEST_F(RandomNetwork, TextIsThatOfTheTokensInWholeCharacters) {
  std::string streamed;
  GenerateCallbacks callbacks;
  callbacks.on_text = [&](std::string_view piece) {
    EXPECT_TRUE(is_valid_utf8(piece));
    EXPECT_FALSE(piece.empty());
    streamed += piece;
    return true;
  };
  const GenerateOptions options = {.max_tokens = 120, .sampler = {.temperature = 1, .seed = 4}};
  const GenerateResult result = generator_.generate(prompt_, options, callbacks);
  EXPECT_EQ(result.text, model_.tokenizer().decode(tokens_of(result)));
  EXPECT_EQ(streamed, result.text);
}

TEST_F(RandomNetwork, ATokenOfTheCheckpointEndsTheText) {
  const Tokens free = tokens_of(generator_.generate(prompt_, {.max_tokens = 20}));
  const auto stop = std::find(free.begin(), free.end(), free[6]);
  const LoadedModel model = load({.end_token = *stop, .weight = TinyLlama::random(11)});
  const GenerateResult result = generator(model).generate(prompt_, {.max_tokens = 20});
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(tokens_of(result), Tokens(free.begin(), stop + 1));
  EXPECT_EQ(result.text, model.tokenizer().decode(Tokens(free.begin(), stop)));
}

TEST_F(RandomNetwork, APromptThatContinuesTheLastRunsOnlyWhatIsNew) {
  const Tokens answer = tokens_of(generator_.generate(prompt_, {.max_tokens = 70}));
  const Tokens next = joined(joined(prompt_, answer), {'?', ' ', 'A'});
  const GenerateResult warm = generator_.generate(next, {.max_tokens = 30});
  // The last token of an answer has no key yet.
  EXPECT_EQ(warm.cached_tokens, static_cast<std::int64_t>(prompt_.size()) + 69);
  const GenerateResult cold = generator(model_).generate(next, {.max_tokens = 30});
  EXPECT_EQ(cold.cached_tokens, 0);
  EXPECT_EQ(tokens_of(warm), tokens_of(cold));
  EXPECT_EQ(warm.kv_bytes, cold.kv_bytes);
}

TEST_F(RandomNetwork, AnotherPromptOrOtherMasksBeginAnew) {
  const GenerateOptions plain = {.max_tokens = 10};
  const GenerateOptions windowed = {
      .max_tokens = 10, .layer_masks = {parse_mask("causal & window(5)"), Mask::causal()}};
  Tokens other = prompt_;
  other[3] = 'X';
  const Tokens first = tokens_of(generator_.generate(prompt_, plain));
  EXPECT_EQ(generator_.generate(other, plain).cached_tokens, 0);
  const GenerateResult masked = generator_.generate(joined(other, {'!'}), windowed);
  EXPECT_EQ(masked.cached_tokens, 0);
  EXPECT_EQ(tokens_of(masked),
            tokens_of(generator(model_).generate(joined(other, {'!'}), windowed)));
  EXPECT_NE(tokens_of(masked), tokens_of(generator(model_).generate(joined(other, {'!'}), plain)));
  EXPECT_EQ(tokens_of(generator_.generate(prompt_, plain)), first);
}

TEST_F(RandomNetwork, MasksLetKeysGo) {
  const Tokens prompt(300, 'a');
  const std::vector<Mask> masks = {parse_mask("causal & (sink(4) | window(64))"), Mask::causal()};
  const GenerateResult exact = generator_.generate(prompt, {.max_tokens = 30});
  EXPECT_EQ(exact.kv_bytes, exact.kv_exact_bytes);
  const GenerateResult masked =
      generator_.generate(prompt, {.max_tokens = 30, .layer_masks = masks, .prefill_chunk = 64});
  EXPECT_EQ(masked.kv_exact_bytes, exact.kv_bytes);
  // Of six pages the sink and the window hold the first and the last two.
  EXPECT_EQ(masked.kv_bytes, exact.kv_bytes * (6 + 3) / 12);
  EXPECT_LT(masked.kv_peak_bytes, exact.kv_peak_bytes);
}

TEST_F(RandomNetwork, ASeedDecidesTheTokens) {
  const auto with_seed = [&](std::uint64_t seed) {
    return tokens_of(generator(model_).generate(
        prompt_, {.max_tokens = 40, .sampler = {.temperature = 1, .seed = seed}}));
  };
  EXPECT_EQ(with_seed(5), with_seed(5));
  EXPECT_NE(with_seed(5), with_seed(6));
}

TEST_F(RandomNetwork, TheContextBoundsTheText) {
  const Tokens prompt(508, 'a');
  const GenerateResult result = generator_.generate(prompt, {.max_tokens = 100});
  EXPECT_EQ(result.samples.size(), 4U);
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(generator_.generate(Tokens(511, 'a'), {.max_tokens = 100}).samples.size(), 1U);
  EXPECT_THROW(generator_.generate(Tokens(512, 'a'), {}), InvalidArgument);
}

TEST_F(RandomNetwork, RequestsThatMakeNoSenseAreRefused) {
  EXPECT_THROW(generator_.generate({}, {}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.max_tokens = 0}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.num_top_logprobs = -1}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.num_top_logprobs = 258}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.layer_masks = {Mask::causal()}}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.prefill_chunk = 0}), InvalidArgument);
  EXPECT_THROW(generator_.generate(prompt_, {.sampler = {.top_p = 2}}), InvalidArgument);
  EXPECT_THROW(generator_.generate({'a', 257}, {}), InvalidArgument);
  EXPECT_EQ(generator_.generate(prompt_, {.max_tokens = 3}).samples.size(), 3U);
}

TEST_F(RandomNetwork, AStoppedPrefillCanBeContinued) {
  const Tokens prompt(200, 'b');
  GenerateCallbacks callbacks;
  callbacks.on_prefill = [](std::int64_t done, std::int64_t total) {
    EXPECT_EQ(total, 200);
    return done < 64;
  };
  const GenerateOptions options = {.max_tokens = 10, .prefill_chunk = 32};
  const GenerateResult stopped = generator_.generate(prompt, options, callbacks);
  EXPECT_EQ(stopped.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(stopped.samples.empty());
  EXPECT_EQ(stopped.decode_tokens_per_s, 0);
  EXPECT_EQ(stopped.prefill_tokens_per_s, 0);
  const Tokens next = joined(prompt, {'c'});
  const GenerateResult result = generator_.generate(next, options);
  EXPECT_EQ(result.cached_tokens, 64);
  EXPECT_EQ(tokens_of(result), tokens_of(generator(model_).generate(next, options)));
}

TEST_F(RandomNetwork, AnErrorOfACallbackLeavesAnEmptyCache) {
  GenerateCallbacks callbacks;
  callbacks.on_text = [](std::string_view) -> bool { throw IoError("the disk is full"); };
  EXPECT_THROW(generator_.generate(prompt_, {.max_tokens = 50}, callbacks), IoError);
  EXPECT_EQ(generator_.generate(joined(prompt_, {'a'}), {.max_tokens = 1}).cached_tokens, 0);
}

// --- A network that says one text

class ChainNetwork : public TextGeneratorTest {
 protected:
  // é, 世 and 🙂 are two, three and four tokens.
  const std::string text_ = "a\u00e9b\u4e16c\U0001F642def";
  LoadedModel model_ = load({.model_dim = 272, .num_layers = 1, .weight = TinyLlama::chain(text_)});
  TextGenerator generator_ = generator(model_);

  GenerateResult say(GenerateOptions options, const GenerateCallbacks& callbacks = {}) {
    return generator_.generate({'a'}, options, callbacks);
  }
};

TEST_F(ChainNetwork, EndsWithItsEndToken) {
  const GenerateResult result = say({});
  EXPECT_EQ(result.text, text_.substr(1));
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
  EXPECT_EQ(result.samples.size(), text_.size());
  EXPECT_EQ(result.samples.back().chosen.token, TinyLlama::kEnd);
}

TEST_F(ChainNetwork, CharactersOfSeveralTokensComeWhole) {
  std::vector<std::string> pieces;
  GenerateCallbacks callbacks;
  callbacks.on_text = [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return true;
  };
  say({}, callbacks);
  EXPECT_THAT(pieces,
              testing::ElementsAre("\u00e9", "b", "\u4e16", "c", "\U0001F642", "d", "e", "f"));
}

TEST_F(ChainNetwork, HalfACharacterAtTheEndIsReplaced) {
  const GenerateResult result = say({.max_tokens = 5});
  EXPECT_EQ(result.text, "\u00e9b\uFFFD");
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST_F(ChainNetwork, StopStringsCutTheText) {
  const auto stopped = [&](std::vector<std::string> stop) {
    std::string streamed;
    GenerateCallbacks callbacks;
    callbacks.on_text = [&](std::string_view piece) {
      streamed += piece;
      return true;
    };
    const GenerateResult result = say({.stop = std::move(stop)}, callbacks);
    EXPECT_EQ(result.finish_reason, FinishReason::kStop);
    EXPECT_EQ(streamed, result.text);
    return std::pair(result.text, result.samples.size());
  };
  using Expected = std::pair<std::string, std::size_t>;
  EXPECT_EQ(stopped({"b"}), Expected("\u00e9", 3));
  EXPECT_EQ(stopped({"\u4e16c"}), Expected("\u00e9b", 7));
  EXPECT_EQ(stopped({"f", "c\U0001F642d"}), Expected("\u00e9b\u4e16", 12));
  EXPECT_EQ(stopped({"\u00e9"}), Expected("", 2));
  // What only begins a stop string is text after all.
  EXPECT_EQ(stopped({"def!"}), Expected(text_.substr(1), text_.size()));
}

TEST_F(ChainNetwork, AListenerEndsTheText) {
  std::string streamed;
  GenerateCallbacks callbacks;
  callbacks.on_text = [&](std::string_view piece) {
    streamed += piece;
    return streamed.size() < 4;
  };
  const GenerateResult result = say({}, callbacks);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.text, "\u00e9b\u4e16");
  EXPECT_EQ(streamed, result.text);
}

TEST_F(ChainNetwork, MaxTokensIsNoStop) {
  const GenerateResult result = say({.max_tokens = static_cast<std::int64_t>(text_.size()) - 1});
  EXPECT_EQ(result.text, text_.substr(1));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

}  // namespace
}  // namespace perpend
