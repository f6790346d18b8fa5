// Models on a GPU, in bf16, against the same weights on the CPU in f32; graphs against launches.
// Skips where the CUDA kernels are not built and where there is no GPU.

#include <algorithm>
#include <filesystem>
#include <numeric>

#include <gtest/gtest.h>

#include "perpend/cache/retained_policy.h"
#include "perpend/decode/engine.h"
#include "perpend/decode/text_generator.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/mask/mask_parser.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"
#include "perpend/models/named_shapes.h"
#include "perpend/models/pass_runner.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/device_choice.h"
#include "perpend/nn/runtime.h"
#include "perpend/ops/tensor_view_of.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

const Device kGpu{DeviceType::kCuda, 0};

// Weights of a seed, rounded to bf16 on every device, so that only activations are rounded more.
// `gain` multiplies those with which training begins, whose standard deviation is 0.02.
class RoundedWeights final : public ModelWeights {
 public:
  RoundedWeights(const ModelConfig& config, float gain, Context& on_cpu)
      : random_(config, 3), gain_(gain), on_cpu_(on_cpu) {}

  Linear linear(std::initializer_list<WeightRole> roles, WeightForm form, const Context& context,
                int layer) const override {
    const Linear linear = random_.linear(roles, torch::kFloat32, on_cpu_, layer);
    const torch::Tensor rounded = (linear.weight() * gain_).to(torch::kBFloat16);
    return Linear(rounded.to(torch_device(context.device), std::get<torch::ScalarType>(form)));
  }
  torch::Tensor vector(WeightRole role, const Context& context, int layer) const override {
    return random_.vector(role, on_cpu_, layer).to(torch_device(context.device));
  }

 private:
  RandomWeights random_;
  float gain_;
  Context& on_cpu_;
};

ModelConfig tiny_config() {
  ModelConfig config = *named_shape("smollm2-135m");
  config.vocab_size = 300;
  config.model_dim = 256;
  config.ffn_dim = 384;
  config.num_layers = 3;
  config.num_q_heads = 8;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.rotary.rotary_dim = 64;
  config.context_length = 4096;
  return config;
}

// A network and the sequences that run through it.
class Batch {
 public:
  Batch(const LanguageModel& model, Context& context, std::size_t count, const std::string& layers)
      : model_(model),
        runner_(model, context),
        masks_(parse_layer_masks(layers, model.config().num_layers)),
        store_(kv_store_config(model.config(), context.device == kGpu ? DType::kBF16 : DType::kF32,
                               model.config().context_length * static_cast<std::int64_t>(count),
                               context.device)) {
    for (std::size_t i = 0; i < count; ++i) {
      sequences_.push_back(std::make_unique<KvSequence>(store_));
      policies_.emplace_back(masks_, model.config().context_length, model.config().num_q_heads,
                             model.config().num_kv_heads);
    }
  }

  // Logits [sequences, vocab_size] after the last of tokens[i] of each sequence i, on the host.
  torch::Tensor run(const std::vector<Tokens>& tokens) {
    const Prepared pass = prepare(tokens);
    const torch::Tensor logits = runner_.run(pass.input()).clone();
    commit();
    return logits;
  }
  Tokens likeliest(const std::vector<Tokens>& tokens) {
    const Prepared pass = prepare(tokens);
    Tokens result;
    for (const VocabularySummary& row : runner_.summarize(pass.input())) {
      result.push_back(row.argmax);
    }
    commit();
    return result;
  }
  const KvStore& store() const { return store_; }

 private:
  struct Prepared {
    Tokens all;
    std::vector<KvRows> rows;
    Tokens wanted;
    std::span<const Mask> masks;

    ForwardInput input() const { return {all, rows, masks, wanted}; }
  };

  Prepared prepare(const std::vector<Tokens>& tokens) {
    Prepared pass;
    pass.masks = masks_;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      KvSequence& sequence = *sequences_[i];
      const auto count = static_cast<std::int64_t>(tokens[i].size());
      pass.rows.push_back({&sequence, sequence.length(), count});
      EXPECT_TRUE(sequence.append(count));
      pass.all.insert(pass.all.end(), tokens[i].begin(), tokens[i].end());
      pass.wanted.push_back(static_cast<std::int32_t>(pass.all.size() - 1));
    }
    return pass;
  }
  void commit() {
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      policies_[i].commit(*sequences_[i], sequences_[i]->length());
    }
  }

  const LanguageModel& model_;
  PassRunner runner_;
  std::vector<Mask> masks_;
  KvStore store_;
  std::vector<std::unique_ptr<KvSequence>> sequences_;
  std::vector<RetainedPolicy> policies_;
};

Tokens some_tokens(std::int64_t count, std::int64_t vocab_size, std::int64_t seed = 0) {
  Tokens tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>((seed + 7 * i + i * i / 3) % vocab_size));
  }
  return tokens;
}

double deviation_of(const torch::Tensor& found, const torch::Tensor& expected) {
  EXPECT_TRUE(torch::isfinite(found).all().item<bool>());
  return ((found - expected).norm() / expected.norm()).item<double>();
}

Tokens likeliest_of(const torch::Tensor& logits) {
  const torch::Tensor best = logits.argmax(1).to(torch::kInt32);
  return {best.data_ptr<std::int32_t>(), best.data_ptr<std::int32_t>() + best.size(0)};
}

std::vector<Tokens> one_each(const Tokens& tokens) {
  std::vector<Tokens> lists;
  for (const std::int32_t token : tokens) lists.push_back({token});
  return lists;
}

constexpr float kGain = 3;
// Of logits, after all layers.
constexpr double kBf16 = 2e-2;
const char* const kHybrid = "0,2: causal & (sink(64) | window(150)); rest: causal";

class ModelCuda : public testing::Test {
 protected:
  void SetUp() override {
    const auto num_devices = cuda_kernels().memory.num_devices;
    if (num_devices == nullptr) GTEST_SKIP() << "no CUDA kernels";
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device";
    gpu_ = std::make_unique<Runtime>(kGpu);
  }

  // With kGain attention and the MLP of a few layers have a say.
  Llama on_cpu(const ModelConfig& config, float gain = kGain) {
    return {config, RoundedWeights(config, gain, cpu_.context()), torch::kFloat32, cpu_.context()};
  }
  Llama on_gpu(const ModelConfig& config, float gain = kGain) {
    return {config, RoundedWeights(config, gain, cpu_.context()), torch::kBFloat16,
            gpu_->context()};
  }
  void capture(bool captures) { gpu_->context().captures_decoding = captures; }

  Runtime cpu_;
  std::unique_ptr<Runtime> gpu_;
};

TEST_F(ModelCuda, LogitsAreThoseOfTheCpu) {
  const ModelConfig config = tiny_config();
  const Llama exact = on_cpu(config);
  const Llama model = on_gpu(config);
  for (const char* layers : {"causal", kHybrid}) {
    Batch reference(exact, cpu_.context(), 2, layers);
    Batch batch(model, gpu_->context(), 2, layers);
    // Prompts of different lengths, then tokens one by one, which are captured.
    std::vector<Tokens> next = {some_tokens(333, config.vocab_size),
                                some_tokens(20, config.vocab_size, 5)};
    for (int step = 0; step < 12; ++step) {
      const torch::Tensor expected = reference.run(next);
      EXPECT_LT(deviation_of(batch.run(next), expected), kBf16) << layers << " step " << step;
      next = one_each(likeliest_of(expected));
    }
    EXPECT_EQ(batch.store().pool().num_used(), reference.store().pool().num_used());
  }
}

TEST_F(ModelCuda, APromptMayEndInSteps) {
  const ModelConfig config = tiny_config();
  const Llama model = on_gpu(config);
  const Tokens tokens = some_tokens(400, config.vocab_size);
  const torch::Tensor whole = Batch(model, gpu_->context(), 1, kHybrid).run({tokens});
  for (const bool captures : {false, true}) {
    capture(captures);
    Batch batch(model, gpu_->context(), 1, kHybrid);
    batch.run({Tokens(tokens.begin(), tokens.begin() + 250)});
    batch.run({Tokens(tokens.begin() + 250, tokens.begin() + 380)});
    torch::Tensor logits;
    for (std::size_t i = 380; i < tokens.size(); ++i) logits = batch.run({{tokens[i]}});
    EXPECT_LT(deviation_of(logits, whole), kBf16);
  }
}

// Across the ends of pages, pages that the masks let go, and the room of a graph.
TEST_F(ModelCuda, GraphsHaveTheBitsOfLaunches) {
  const ModelConfig config = tiny_config();
  const Llama model = on_gpu(config);
  for (const char* layers : {"causal", kHybrid, "causal & every(16, 4)"}) {
    capture(true);
    Batch captured(model, gpu_->context(), 2, layers);
    Batch launched(model, gpu_->context(), 2, layers);
    std::vector<Tokens> next = {some_tokens(960, config.vocab_size),
                                some_tokens(30, config.vocab_size, 9)};
    for (int step = 0; step < 150; ++step) {
      capture(true);
      const torch::Tensor found = captured.run(next);
      capture(false);
      const torch::Tensor expected = launched.run(next);
      ASSERT_TRUE(torch::equal(found, expected)) << layers << " step " << step;
      next = one_each(likeliest_of(expected));
    }
  }
}

TEST_F(ModelCuda, BatchMatesDoNotMatter) {
  const ModelConfig config = tiny_config();
  const Llama model = on_gpu(config);
  const std::vector<Tokens> prompts = {some_tokens(700, config.vocab_size),
                                       some_tokens(3, config.vocab_size, 2),
                                       some_tokens(150, config.vocab_size, 4)};
  Batch together(model, gpu_->context(), 3, kHybrid);
  torch::Tensor logits = together.run(prompts);
  std::vector<std::unique_ptr<Batch>> alone;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    alone.push_back(std::make_unique<Batch>(model, gpu_->context(), 1, kHybrid));
  }
  std::vector<Tokens> next = prompts;
  for (int step = 0; step < 8; ++step) {
    if (step > 0) logits = together.run(next);
    const Tokens best = likeliest_of(logits);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const torch::Tensor expected = alone[i]->run({next[i]});
      EXPECT_LT(deviation_of(logits.narrow(0, static_cast<std::int64_t>(i), 1), expected), kBf16);
    }
    next = one_each(best);
  }
}

TEST_F(ModelCuda, SummariesAreThoseOfTheLogits) {
  const ModelConfig config = tiny_config();
  const Llama model = on_gpu(config);
  for (const bool captures : {false, true}) {
    capture(captures);
    Batch logits(model, gpu_->context(), 2, "causal");
    Batch summaries(model, gpu_->context(), 2, "causal");
    std::vector<Tokens> next = {some_tokens(70, config.vocab_size), {1}};
    for (int step = 0; step < 5; ++step) {
      const Tokens best = likeliest_of(logits.run(next));
      EXPECT_EQ(summaries.likeliest(next), best);
      next = one_each(best);
    }
  }
}

// Rounding activations to bf16, and nothing else, changes these logits by 0.5 % where weights have
// the gain of 1, and by 7 % where kGain lets 30 layers amplify it.
TEST_F(ModelCuda, TheShapeOfSmolLm2) {
  const ModelConfig config = *named_shape("smollm2-135m");
  const Llama exact = on_cpu(config, 1);
  const Llama model = on_gpu(config, 1);
  Batch reference(exact, cpu_.context(), 1, "causal");
  Batch batch(model, gpu_->context(), 1, "causal");
  std::vector<Tokens> next = {some_tokens(100, config.vocab_size)};
  for (int step = 0; step < 4; ++step) {
    const torch::Tensor expected = reference.run(next);
    EXPECT_LT(deviation_of(batch.run(next), expected), kBf16) << "step " << step;
    next = one_each(likeliest_of(expected));
  }
}

// A file whose blocks become bf16, and text with and without graphs, logits and summaries.
TEST_F(ModelCuda, TextOfAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  TinyLlama{.weight = TinyLlama::random(11)}.write(path);
  const LoadedModel model(path, torch::kBFloat16, gpu_->context());
  const Tokens prompt = {'O', 'n', 'c', 'e', ' ', 'u', 'p', 'o', 'n'};
  std::vector<std::string> texts;
  for (const bool captures : {false, true}) {
    for (const int num_top : {0, 2}) {
      capture(captures);
      TextGenerator generator(model, gpu_->context(), DType::kBF16);
      const GenerateResult result =
          generator.generate(prompt, {.max_tokens = 100, .num_top_logprobs = num_top});
      EXPECT_FALSE(result.samples.empty());
      for (const Sample& sample : result.samples) EXPECT_LE(sample.chosen.logprob, 0.0F);
      texts.push_back(result.text);
    }
  }
  for (const std::string& text : texts) EXPECT_EQ(text, texts.front());
}

// One at a time requests run the passes that they run alone. Side by side products may come from
// kernels for other numbers of rows: greedy ones, of which summaries come, beside drawn ones, of
// which logits come, all of them whole, and the same with graphs and without.
TEST_F(ModelCuda, RequestsSideBySide) {
  const TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  TinyLlama{.weight = TinyLlama::random(11)}.write(path);
  const LoadedModel model(path, torch::kBFloat16, gpu_->context());
  std::vector<GenerateOptions> requests(5, {.max_tokens = 40});
  requests[1].sampler = {.temperature = 1, .seed = 3};
  requests[2].layer_masks = {parse_mask("causal & (sink(4) | window(64))"), Mask::causal()};
  requests[3].prefill_chunk = 64;
  requests[4].max_tokens = 90;
  const Tokens prompt(150, 'a');
  const auto texts = [&](std::int64_t max_running) {
    std::vector<std::string> found(requests.size());
    Engine engine(model, gpu_->context(),
                  {.kv_dtype = DType::kBF16, .max_running = max_running, .max_tokens = 1280});
    for (std::size_t i = 0; i < requests.size(); ++i) {
      engine.submit(prompt, requests[i], {.on_done = [&, i](const GenerateResult& result) {
                      EXPECT_TRUE(result.finish_reason == FinishReason::kStop ||
                                  std::ssize(result.samples) == requests[i].max_tokens);
                      found[i] = result.text;
                    }});
    }
    engine.run();
    EXPECT_EQ(engine.kv_bytes(), 0);
    return found;
  };
  std::vector<std::string> alone;
  for (const GenerateOptions& request : requests) {
    TextGenerator generator(model, gpu_->context(), DType::kBF16);
    alone.push_back(generator.generate(prompt, request).text);
  }
  capture(false);
  const std::vector<std::string> launched = texts(4);
  EXPECT_EQ(texts(1), alone);
  capture(true);
  EXPECT_EQ(texts(1), alone);
  EXPECT_EQ(texts(4), launched);
}

// Answers of every kind of diffusion model, by graphs and by launches.
TEST_F(ModelCuda, BlocksOfDiffusion) {
  const TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  TinyLlama{.model_dim = 128, .ffn_dim = 96, .num_layers = 4, .weight = TinyLlama::random(23)}
      .write(path);
  struct Kind {
    DiffusionAttention attention;
    CanvasCache cache;
  };
  for (const Kind& kind : {Kind{DiffusionAttention::kBlock, CanvasCache::kBlock},
                           {DiffusionAttention::kBlock, CanvasCache::kSubBlock},
                           {DiffusionAttention::kContextCausal, CanvasCache::kBlock},
                           {DiffusionAttention::kFull, CanvasCache::kDual},
                           {DiffusionAttention::kFull, CanvasCache::kElastic}}) {
    LoadOptions load;
    load.changes.diffusion = DiffusionConfig{kind.attention, 16, true, 3, ""};
    const LoadedModel model(path, torch::kBFloat16, gpu_->context(), load);
    GenerateOptions options{.max_tokens = 100};
    options.diffusion.cache = kind.cache;
    options.diffusion.rule.threshold = 0.01F;
    options.diffusion.elastic = {.gamma = 0.97F, .layers_together = 2};
    std::vector<GenerateResult> results;
    for (const bool captures : {false, true}) {
      capture(captures);
      TextGenerator generator(model, gpu_->context(), DType::kBF16);
      results.push_back(generator.generate({40, 41, 42, 43, 44}, options));
    }
    EXPECT_EQ(results[0].text, results[1].text) << name_of(kind.cache);
    EXPECT_EQ(results[0].num_forwards, results[1].num_forwards) << name_of(kind.cache);
    EXPECT_EQ(results[0].elastic_boundaries, results[1].elastic_boundaries);
  }
}

TEST_F(ModelCuda, ElasticThatRefreshesAlwaysIsNoCache) {
  const TemporaryFolder folder;
  const std::string path = folder.file("tiny.gguf");
  TinyLlama{.model_dim = 128, .ffn_dim = 96, .weight = TinyLlama::random(29)}.write(path);
  LoadOptions load;
  load.changes.diffusion = DiffusionConfig{DiffusionAttention::kFull, 16, false, 3, ""};
  const LoadedModel model(path, torch::kBFloat16, gpu_->context(), load);
  std::vector<std::string> texts;
  for (const CanvasCache cache : {CanvasCache::kNone, CanvasCache::kElastic}) {
    TextGenerator generator(model, gpu_->context(), DType::kBF16);
    GenerateOptions options{.max_tokens = 150};
    options.diffusion.window = 8;
    options.diffusion.cache = cache;
    options.diffusion.rule.threshold = 0.01F;
    options.diffusion.elastic = {.gamma = 0, .refreshes_always = true};
    texts.push_back(generator.generate({40, 41, 42, 43, 44}, options).text);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

#ifdef PERPEND_MODEL_FILE
TEST_F(ModelCuda, SmolLm2AgreesWithF32) {
  if (!std::filesystem::exists(PERPEND_MODEL_FILE)) GTEST_SKIP() << "no model file";
  const LoadedModel exact(PERPEND_MODEL_FILE, LinearMode::kF32, cpu_.context());
  const LoadedModel model(PERPEND_MODEL_FILE, torch::kBFloat16, gpu_->context());
  Batch reference(exact.network(), cpu_.context(), 1, "causal");
  Batch batch(model.network(), gpu_->context(), 1, "causal");
  std::vector<Tokens> next = {
      exact.encode_text("The blocks of a wall lie in courses; a perpend reaches through all of")};
  for (int step = 0; step < 20; ++step) {
    const torch::Tensor expected = reference.run(next);
    EXPECT_LT(deviation_of(batch.run(next), expected), 2 * kBf16) << "step " << step;
    next = one_each(likeliest_of(expected));
  }
}
#endif

}  // namespace
}  // namespace perpend
