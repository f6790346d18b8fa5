#include "perpend/decode/engine.h"

#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <numeric>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "perpend/core/error.h"
#include "perpend/nn/runtime.h"
#include "tests/campaign.h"
#include "tests/decode/engine_cases.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using ModelKind = std::optional<DiffusionAttention>;

constexpr std::int32_t kMaskId = 200;
const std::vector<ModelKind> kKinds = {std::nullopt, DiffusionAttention::kBlock,
                                       DiffusionAttention::kContextCausal,
                                       DiffusionAttention::kFull};

// How an answer came out: either a result or an error.
struct Outcome {
  GenerateResult result;
  std::string streamed;
  std::string error;
  int num_ends = 0;
};

std::vector<std::int32_t> answer_ids(const GenerateResult& result) {
  std::vector<std::int32_t> ids;
  for (const Sample& sample : result.samples) ids.push_back(sample.chosen.token);
  return ids;
}

void expect_same(const Sample& a, const Sample& b) {
  EXPECT_EQ(a.chosen.token, b.chosen.token);
  EXPECT_EQ(a.chosen.logprob, b.chosen.logprob);
  ASSERT_EQ(a.top.size(), b.top.size());
  for (std::size_t i = 0; i < a.top.size(); ++i) {
    EXPECT_EQ(a.top[i].token, b.top[i].token);
    EXPECT_EQ(a.top[i].logprob, b.top[i].logprob);
  }
}

// Bit for bit.
void expect_same(const Outcome& found, const Outcome& expected) {
  EXPECT_EQ(found.error, expected.error);
  EXPECT_EQ(found.num_ends, 1);
  EXPECT_EQ(found.streamed, expected.streamed);
  const GenerateResult& a = found.result;
  const GenerateResult& b = expected.result;
  ASSERT_EQ(answer_ids(a), answer_ids(b));
  for (std::size_t i = 0; i < a.samples.size(); ++i) expect_same(a.samples[i], b.samples[i]);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.prompt_tokens, b.prompt_tokens);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  EXPECT_EQ(a.num_forwards, b.num_forwards);
  EXPECT_EQ(a.num_forward_rows, b.num_forward_rows);
  EXPECT_EQ(a.elastic_boundaries, b.elastic_boundaries);
  EXPECT_EQ(a.elastic_layer_rows, b.elastic_layer_rows);
}

class EngineTest : public testing::Test {
 protected:
  // One random network, run as a model of each kind.
  LoadedModel load(ModelKind kind, LinearMode mode = LinearMode::kF32,
                   BlockFormat format = BlockFormat::kF32) {
    const std::string path = folder_.file("tiny.gguf");
    TinyLlama{.ffn_dim = 64, .end_token = 'Z', .format = format, .weight = TinyLlama::random(5)}
        .write(path);
    LoadOptions options;
    if (kind) options.changes.diffusion = DiffusionConfig{*kind, 8, true, kMaskId, ""};
    return {path, mode, runtime_.context(), options};
  }

  Outcome alone(const LoadedModel& model, const EngineCase& request, DType kv_dtype = DType::kF32) {
    Outcome outcome;
    TextGenerator generator(model, runtime_.context(), kv_dtype);
    outcome.result =
        generator.generate(request.prompt, request.options, request.listener(outcome.streamed));
    return outcome;
  }

  static RequestId submit(Engine& engine, const EngineCase& request, Outcome& outcome) {
    return engine.submit(request.prompt, request.options,
                         {.progress = request.listener(outcome.streamed),
                          .on_done =
                              [&outcome](GenerateResult result) {
                                outcome.result = std::move(result);
                                ++outcome.num_ends;
                              },
                          .on_error =
                              [&outcome](const std::exception& error) {
                                outcome.error = error.what();
                                ++outcome.num_ends;
                              }});
  }

  // Random requests, some of them later than others, under random limits: each is answered as it
  // is alone.
  void expect_answers_of_single_requests(const LoadedModel& model, ModelKind kind, Random& random,
                                         DType kv_dtype = DType::kF32) {
    std::vector<EngineCase> requests(1 + random.next_below(8));
    for (EngineCase& request : requests) request = EngineCase::random(random, kind);
    // The longest canvas is of 150 + 120 tokens and a block of 16: five pages a layer.
    const EngineOptions options{
        .kv_dtype = kv_dtype,
        .max_running = 1 + static_cast<std::int64_t>(random.next_below(6)),
        .max_rows = std::array<std::int64_t, 4>{1, 20, 100, 1000}[random.next_below(4)],
        .max_tokens = 64 * (5 + static_cast<std::int64_t>(random.next_below(2) * 4))};
    Engine engine(model, runtime_.context(), options);
    std::vector<Outcome> outcomes(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      submit(engine, requests[i], outcomes[i]);
      for (std::uint64_t turns = random.next_below(4); turns > 0; --turns) engine.step();
    }
    engine.run();
    EXPECT_EQ(engine.num_requests(), 0U);
    EXPECT_EQ(engine.kv_bytes(), 0);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(concat("request ", i, " of ", requests.size(), ": ", requests[i].text()));
      expect_same(outcomes[i], alone(model, requests[i], kv_dtype));
    }
  }

  TemporaryFolder folder_;
  Runtime runtime_{2};
};

TEST_F(EngineTest, AnswersAreThoseOfSingleRequests) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(12)));
  for (const ModelKind kind : kKinds) {
    const LoadedModel model = load(kind);
    for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
      SCOPED_TRACE(concat(kind ? name_of(*kind) : "autoregressive", ": ", campaign.name(i)));
      Random random(campaign.seed, i);
      expect_answers_of_single_requests(model, kind, random);
      if (HasFailure()) return;
    }
  }
}

TEST_F(EngineTest, AnswersOfQuantizedModelsAreThoseOfSingleRequests) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(4)));
  for (const BlockFormat format : {BlockFormat::kQ4_1, BlockFormat::kQ8_0, BlockFormat::kF16}) {
    for (const ModelKind kind : {kKinds[0], kKinds[1]}) {
      const LoadedModel model = load(kind, LinearMode::kQuantized, format);
      for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
        SCOPED_TRACE(concat(format, ": ", campaign.name(i)));
        Random random(campaign.seed, 1000 + i);
        expect_answers_of_single_requests(model, kind, random, DType::kF16);
        if (HasFailure()) return;
      }
    }
  }
}

// Each begins in one page and grows into a second, of which there is none.
TEST_F(EngineTest, ARequestThatIsPutBackComesToTheSameAnswer) {
  for (const ModelKind kind : {kKinds[0], kKinds[1], kKinds[2]}) {
    const LoadedModel model = load(kind);
    std::vector<EngineCase> requests(5);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i].prompt.assign(40 + i, static_cast<std::int32_t>(i + 1));
      requests[i].options.max_tokens = 60;
      requests[i].options.sampler = {.temperature = i % 2 == 0 ? 0.0F : 1.0F, .seed = i};
      requests[i].options.diffusion.rule.threshold = 0.05F;
    }
    requests[4].pieces = 7;
    Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 320});
    std::vector<Outcome> outcomes(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) submit(engine, requests[i], outcomes[i]);
    engine.run();
    EXPECT_GT(engine.num_put_back(), 0);
    EXPECT_EQ(engine.kv_bytes(), 0);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      expect_same(outcomes[i], alone(model, requests[i]));
    }
  }
}

// --- What ends a request

TEST_F(EngineTest, WhatCanNotBeRunIsRefusedAtOnce) {
  const LoadedModel model = load(std::nullopt);
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 128});
  const auto refused = [&](std::vector<std::int32_t> prompt, const GenerateOptions& options,
                           const std::string& what) {
    try {
      engine.submit(std::move(prompt), options, {});
      ADD_FAILURE() << "taken: " << what;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(what));
    }
  };
  refused({}, {}, "the prompt is empty");
  refused(std::vector<std::int32_t>(512, 1), {}, "512 tokens do not fit the model's context");
  refused({1, 257}, {}, "token id 257 is outside the vocabulary of 257");
  refused({1}, {.max_tokens = 0}, "max-tokens must be positive (0)");
  refused({1}, {.sampler = {.temperature = -1}}, "temperature");
  refused({1}, {.layer_masks = {Mask::causal()}}, "masks and layers differ (1 vs 2)");
  refused(std::vector<std::int32_t>(100, 1), {.max_tokens = 29},
          "may need the keys of 192 tokens, the cache holds 128");
  EXPECT_EQ(engine.num_requests(), 0U);
  EXPECT_FALSE(engine.step());
  EXPECT_THROW(Engine(model, runtime_.context(), {.max_running = 0}), InvalidArgument);
  EXPECT_THROW(Engine(model, runtime_.context(), {.max_rows = 0}), InvalidArgument);
  EXPECT_THROW(Engine(model, runtime_.context(), {.max_tokens = -1}), InvalidArgument);
}

TEST_F(EngineTest, ACancelledRequestKeepsWhatItHasAndTheOthersGoOn) {
  for (const ModelKind kind : kKinds) {
    const LoadedModel model = load(kind);
    Random random(3);
    for (int trial = 0; trial < num_trials(6); ++trial) {
      std::vector<EngineCase> requests(4);
      for (EngineCase& request : requests) {
        request = EngineCase::random(random, kind);
        request.pieces.reset();
      }
      Engine engine(model, runtime_.context(),
                    {.kv_dtype = DType::kF32,
                     .max_running = 1 + static_cast<std::int64_t>(random.next_below(4)),
                     .max_tokens = 512});
      std::vector<Outcome> outcomes(requests.size());
      std::vector<RequestId> ids;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        ids.push_back(submit(engine, requests[i], outcomes[i]));
      }
      for (std::uint64_t turns = random.next_below(12); turns > 0; --turns) engine.step();
      engine.cancel(ids[1]);
      engine.cancel(ids[1]);
      engine.cancel(12345);
      engine.run();
      EXPECT_EQ(engine.kv_bytes(), 0);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const Outcome expected = alone(model, requests[i]);
        const bool cut = outcomes[i].result.finish_reason == FinishReason::kCancelled;
        EXPECT_TRUE(i == 1 || !cut);
        if (!cut) {
          expect_same(outcomes[i], expected);
          continue;
        }
        EXPECT_EQ(outcomes[i].num_ends, 1);
        EXPECT_EQ(outcomes[i].streamed, outcomes[i].result.text);
        EXPECT_TRUE(expected.result.text.starts_with(outcomes[i].streamed));
      }
    }
  }
}

// A token whose embedding is no number.
TEST_F(EngineTest, AnErrorEndsItsRequestAlone) {
  const std::string path = folder_.file("nan.gguf");
  const TinyLlama::Weight weight = TinyLlama::random(5);
  TinyLlama{.weight = [weight](const std::string& tensor, std::int64_t row,
                               std::int64_t column) mutable {
    const float value = weight(tensor, row, column);
    const bool bad = tensor == "token_embd.weight" && row == 250;
    return bad ? std::numeric_limits<float>::quiet_NaN() : value;
  }}.write(path);
  const LoadedModel model(path, LinearMode::kF32, runtime_.context());
  const EngineCase good{.prompt = std::vector<std::int32_t>(70, 3), .options = {.max_tokens = 30}};
  const EngineCase bad{.prompt = {1, 250, 2}, .options = {.max_tokens = 30}};
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 256});
  std::vector<Outcome> outcomes(4);
  submit(engine, good, outcomes[0]);
  submit(engine, bad, outcomes[1]);
  engine.run();
  // The pages of the bad one are used again.
  submit(engine, bad, outcomes[2]);
  engine.run();
  submit(engine, good, outcomes[3]);
  engine.run();
  EXPECT_THAT(outcomes[1].error, testing::HasSubstr("logits"));
  EXPECT_THAT(outcomes[2].error, testing::HasSubstr("logits"));
  EXPECT_EQ(outcomes[1].num_ends, 1);
  for (const int i : {0, 3}) {
    expect_same(outcomes[static_cast<std::size_t>(i)], alone(model, good));
  }
  EXPECT_EQ(engine.kv_bytes(), 0);
}

TEST_F(EngineTest, WhatAListenerThrowsEndsItsRequestAlone) {
  const LoadedModel model = load(std::nullopt);
  const EngineCase request{.prompt = {1, 2, 3}, .options = {.max_tokens = 20}};
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 256});
  Outcome good;
  std::string error;
  submit(engine, request, good);
  GenerateCallbacks listener;
  listener.on_text = [](std::string_view) -> bool { throw InvalidArgument("nobody listens"); };
  engine.submit(
      request.prompt, request.options,
      {.progress = listener, .on_error = [&](const std::exception& what) { error = what.what(); }});
  engine.run();
  EXPECT_EQ(error, "nobody listens");
  expect_same(good, alone(model, request));
}

// A callback may submit and cancel.
TEST_F(EngineTest, RequestsMayFollowRequests) {
  const LoadedModel model = load(std::nullopt);
  const EngineCase request{.prompt = {1, 2, 3}, .options = {.max_tokens = 5}};
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 256});
  Outcome second;
  engine.submit(request.prompt, request.options,
                {.on_done = [&](const GenerateResult&) { submit(engine, request, second); }});
  engine.run();
  expect_same(second, alone(model, request));
}

TEST_F(EngineTest, OtherThreadsMaySubmitAndCancel) {
  const LoadedModel model = load(std::nullopt);
  const EngineCase request{.prompt = {1, 2, 3}, .options = {.max_tokens = 6}};
  const Outcome expected = alone(model, request);
  constexpr int kRequests = 30;
  std::vector<Outcome> outcomes(kRequests);
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 256});
  std::atomic<bool> finished = false;
  std::thread other([&] {
    for (int i = 0; i < kRequests; ++i) {
      const RequestId id = submit(engine, request, outcomes[static_cast<std::size_t>(i)]);
      if (i % 3 == 0) engine.cancel(id);
    }
    finished = true;
  });
  while (engine.step() || !finished) std::this_thread::yield();
  other.join();
  engine.run();
  for (int i = 0; i < kRequests; ++i) {
    const Outcome& outcome = outcomes[static_cast<std::size_t>(i)];
    EXPECT_EQ(outcome.num_ends, 1);
    if (i % 3 != 0) expect_same(outcome, expected);
  }
}

// --- One pass a turn

TEST_F(EngineTest, ATurnIsOnePass) {
  const LoadedModel model = load(DiffusionAttention::kBlock);
  EngineCase tokens{.prompt = std::vector<std::int32_t>(200, 7), .options = {.max_tokens = 10}};
  tokens.options.diffusion.block_size = 1;
  tokens.options.prefill_chunk = 64;
  EngineCase blocks = tokens;
  blocks.options.diffusion.block_size = 8;
  blocks.options.diffusion.rule.threshold = 1;
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32});
  std::vector<Outcome> outcomes(2);
  submit(engine, tokens, outcomes[0]);
  submit(engine, blocks, outcomes[1]);
  engine.run();
  // Three chunks before the passes that count.
  const std::int64_t longest =
      std::max(outcomes[0].result.num_forwards, outcomes[1].result.num_forwards);
  EXPECT_EQ(engine.num_passes(), 3 + longest);
  expect_same(outcomes[0], alone(model, tokens));
  expect_same(outcomes[1], alone(model, blocks));
}

// A GPU sends summaries of greedy requests beside logits of others.
TEST_F(EngineTest, SummariesAndLogitsComeFromOnePass) {
  const LoadedModel model = load(std::nullopt);
  const std::vector<Mask> masks(2, Mask::causal());
  constexpr std::int64_t kRows = 40;  // more than a chunk of logits
  const std::vector<std::int32_t> tokens(kRows, 9);
  std::vector<std::int32_t> wanted(kRows);
  std::iota(wanted.rbegin(), wanted.rend(), 0);
  KvStore store({.num_layers = 2,
                 .num_kv_heads = 2,
                 .head_dim = 16,
                 .dtype = DType::kF32,
                 .max_tokens = kRows});
  KvSequence sequence(store);
  ASSERT_TRUE(sequence.append(kRows));
  const KvRows rows{&sequence, 0, kRows};
  PassRunner runner(model.network(), runtime_.context());
  const ForwardInput input{tokens, {&rows, 1}, masks, wanted};
  const torch::Tensor expected = runner.run(input).clone();
  for (const std::int64_t num_summaries : {0, 5, 32, 35, 40}) {
    std::int64_t next = 0;
    runner.run(
        input, PassRunner::kNoToken, num_summaries,
        [&](std::int64_t first, std::span<const VocabularySummary> summaries) {
          EXPECT_EQ(first, next);
          for (const VocabularySummary& summary : summaries) {
            EXPECT_EQ(summary.max, expected[next].max().item<float>());
            EXPECT_EQ(summary.argmax, expected[next].argmax().item<std::int64_t>());
            EXPECT_LT(next++, num_summaries);
          }
        },
        [&](std::int64_t first, const torch::Tensor& logits) {
          EXPECT_EQ(first, next);
          EXPECT_GE(first, num_summaries);
          EXPECT_TRUE(torch::equal(logits, expected.narrow(0, first, logits.size(0))));
          next += logits.size(0);
        });
    EXPECT_EQ(next, kRows);
  }
}

// --- Soak

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Requests come and go for ten minutes in a long campaign, for a moment in a usual one; none leaves
// anything behind.
TEST_F(EngineTest, Soak) {
  using Clock = std::chrono::steady_clock;
  const std::uint64_t seconds =
      campaign_number("PERPEND_SOAK_SECONDS", std::getenv("PERPEND_LONG") != nullptr ? 600 : 1);
  const LoadedModel model = load(DiffusionAttention::kBlock);
  // Block size 1 is autoregression: the pool has both.
  std::vector<EngineCase> cases;
  std::vector<Outcome> expected;
  Random random(campaign_number("PERPEND_CAMPAIGN_SEED", 1), 77);
  for (int i = 0; i < 24; ++i) {
    cases.push_back(EngineCase::random(random, DiffusionAttention::kBlock));
    expected.push_back(alone(model, cases.back()));
  }
  Engine engine(model, runtime_.context(),
                {.kv_dtype = DType::kF32, .max_running = 6, .max_rows = 200, .max_tokens = 384});
  std::int64_t num_answers = 0;
  std::int64_t early_bytes = 0;
  const auto start = Clock::now();
  const auto end = start + std::chrono::seconds(seconds);
  const auto goes_on = [&] {
    return Clock::now() < end || num_answers < 40 || engine.num_put_back() == 0;
  };
  while (goes_on() || engine.num_requests() > 0) {
    while (goes_on() && engine.num_requests() < 9) {
      const std::size_t index = random.next_below(cases.size());
      auto outcome = std::make_shared<Outcome>();
      const RequestId id = engine.submit(
          cases[index].prompt, cases[index].options,
          {.progress = cases[index].listener(outcome->streamed),
           .on_done =
               [&, index, outcome](GenerateResult result) {
                 outcome->result = std::move(result);
                 ++outcome->num_ends;
                 ++num_answers;
                 const bool cut = outcome->result.finish_reason == FinishReason::kCancelled &&
                                  !cases[index].pieces;
                 if (!cut) expect_same(*outcome, expected[index]);
               },
           .on_error = [](const std::exception& error) { ADD_FAILURE() << error.what(); }});
      if (!cases[index].pieces && random.next_below(10) == 0) engine.cancel(id);
    }
    engine.step();
    ASSERT_FALSE(HasFailure());
    const bool early = Clock::now() < start + std::chrono::milliseconds(200 * seconds);
    if (early) early_bytes = resident_bytes();
  }
  EXPECT_EQ(engine.kv_bytes(), 0);
  EXPECT_LT(resident_bytes() - early_bytes, 32 << 20) << "memory grew";
  std::cout << num_answers << " answers, " << engine.num_put_back() << " put back, resident "
            << (early_bytes >> 10) << " KiB early, " << (resident_bytes() >> 10) << " KiB late\n";
}

}  // namespace
}  // namespace perpend
