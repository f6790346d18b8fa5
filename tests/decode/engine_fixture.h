#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/nn/runtime.h"
#include "tests/decode/engine_cases.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {

using ModelKind = std::optional<DiffusionAttention>;

constexpr std::int32_t kMaskId = 200;
inline const std::vector<ModelKind> kKinds = {std::nullopt, DiffusionAttention::kBlock,
                                              DiffusionAttention::kContextCausal,
                                              DiffusionAttention::kFull};

// How an answer came out: either a result or an error.
struct Outcome {
  GenerateResult result;
  std::string streamed;
  std::string error;
  int num_ends = 0;
};

inline std::vector<std::int32_t> answer_ids(const GenerateResult& result) {
  std::vector<std::int32_t> ids;
  for (const Sample& sample : result.samples) ids.push_back(sample.chosen.token);
  return ids;
}

inline void expect_same(const Sample& a, const Sample& b) {
  EXPECT_EQ(a.chosen.token, b.chosen.token);
  EXPECT_EQ(a.chosen.logprob, b.chosen.logprob);
  ASSERT_EQ(a.top.size(), b.top.size());
  for (std::size_t i = 0; i < a.top.size(); ++i) {
    EXPECT_EQ(a.top[i].token, b.top[i].token);
    EXPECT_EQ(a.top[i].logprob, b.top[i].logprob);
  }
}

// Bit for bit.
inline void expect_same(const Outcome& found, const Outcome& expected) {
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

  TemporaryFolder folder_;
  Runtime runtime_{2};
};

}  // namespace perpend
