// Steps of a run: what makes them up, where they lead, and that a run goes on where it stood.

#include "perpend/train/trainer.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/train/block_rank_loss.h"
#include "perpend/train/lora.h"
#include "tests/io/temporary_folder.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

struct SmallRun {
  explicit SmallRun(const TrainerOptions& options, const std::vector<TrainingSequence>& sequences,
                    std::vector<WeightedLoss> losses = next_token(),
                    const Mask& mask = Mask::causal())
      : trainer(model.llama, model.all_tensors(), std::make_shared<MemoryDataset>(sequences),
                std::move(losses), std::vector<Mask>(3, mask), options) {}

  TinyModel model;
  Trainer trainer;
};

TrainerOptions options_of(std::int64_t sequences, int accumulation = 1) {
  TrainerOptions options;
  options.batch = {.sequences = sequences, .tokens = 0, .shuffle = false, .seed = 1};
  options.accumulation = accumulation;
  options.learning_rate.peak = 1e-2;
  return options;
}

void expect_equal(const TinyModel& a, const TinyModel& b) {
  const auto left = a.copies();
  const auto right = b.copies();
  for (std::size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(torch::equal(left[i], right[i]));
}

TEST(Trainer, AccumulatedBatchesAreOneBatch) {
  // Of unequal weight, so that a mean of means would be another step.
  const auto sequences = random_sequences({30, 3, 17, 9}, 11);
  SmallRun whole(options_of(4), sequences);
  SmallRun parts(options_of(1, 4), sequences);
  const StepReport a = whole.trainer.step();
  const StepReport b = parts.trainer.step();
  EXPECT_NEAR(a.loss.item<double>(), b.loss.item<double>(), 1e-6);
  EXPECT_NEAR(a.grad_norm.item<double>() / b.grad_norm.item<double>(), 1, 1e-5);
  EXPECT_EQ(a.num_tokens, b.num_tokens);
  const auto left = whole.model.copies();
  const auto right = parts.model.copies();
  for (std::size_t i = 0; i < left.size(); ++i) EXPECT_LT(error_between(left[i], right[i]), 1e-4);
}

TEST(Trainer, RecomputingChangesNoBitOfARun) {
  const auto sequences = random_sequences({12, 20}, 12);
  TrainerOptions options = options_of(2);
  SmallRun kept(options, sequences);
  options.recompute = true;
  SmallRun recomputed(options, sequences);
  for (int i = 0; i < 3; ++i) {
    kept.trainer.step();
    recomputed.trainer.step();
  }
  expect_equal(kept.model, recomputed.model);
}

std::vector<TrainingSequence> ranking_prompts() {
  auto prompts = random_sequences({10, 10}, 13);
  for (TrainingSequence& prompt : prompts) {
    prompt.labels["doc"] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4};
    prompt.lists = {{"signals", {8, 9}}, {"positives", {2}}};
    prompt.weights.assign(10, 1.0F);
  }
  return prompts;
}

TEST(Trainer, AWeightOfZeroIsPlainTraining) {
  const Mask mask = parse_mask("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 4))");
  auto losses = next_token();
  SmallRun plain(options_of(2), ranking_prompts(), losses, mask);
  losses.push_back({std::make_shared<BlockRankLoss>(1, 0.05), 0.0});
  SmallRun zero(options_of(2), ranking_prompts(), losses, mask);
  losses.back().weight = 0.1;
  SmallRun weighted(options_of(2), ranking_prompts(), losses, mask);
  for (int i = 0; i < 2; ++i) {
    plain.trainer.step();
    zero.trainer.step();
    const StepReport report = weighted.trainer.step();
    ASSERT_EQ(report.parts.size(), 2U);
    EXPECT_EQ(report.parts[1].first, "blockrank");
    EXPECT_NEAR(report.loss.item<double>(),
                report.parts[0].second.item<double>() + 0.1 * report.parts[1].second.item<double>(),
                1e-5);
  }
  expect_equal(plain.model, zero.model);
  EXPECT_FALSE(torch::equal(plain.model.copies()[1], weighted.model.copies()[1]));
}

TEST(Trainer, TheAuxiliaryLossAloneReachesNothingAboveItsLayer) {
  const Mask mask = parse_mask("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 4))");
  SmallRun run(options_of(2), ranking_prompts(), {{std::make_shared<BlockRankLoss>(1, 0.05), 1.0}},
               mask);
  const auto before = run.model.copies();
  run.trainer.step();
  const auto after = run.model.copies();
  const auto names = run.model.llama.named_parameters();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i].parts.front().name;
    const bool reached = name.starts_with("model.layers.0.") ||
                         name == "model.embed_tokens.weight" ||
                         name == "model.layers.1.input_layernorm.weight" ||
                         name == "model.layers.1.self_attn.q_proj.weight";
    EXPECT_EQ(!torch::equal(before[i], after[i]), reached) << name;
  }
}

TEST(Trainer, GoesOnInTheMiddleOfAnEpoch) {
  const auto sequences = random_sequences({12, 5, 9, 14, 7}, 14);
  TrainerOptions options = options_of(2);
  options.batch.shuffle = true;
  SmallRun whole(options, sequences);
  for (int i = 0; i < 7; ++i) whole.trainer.step();

  SmallRun first(options, sequences);
  for (int i = 0; i < 4; ++i) first.trainer.step();
  SmallRun second(options, sequences);
  const auto from = first.trainer.optimizer().state();
  const auto to = second.trainer.optimizer().state();
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_(from[i].tensor);
  }
  second.trainer.restore(first.trainer.place());
  for (int i = 0; i < 3; ++i) second.trainer.step();
  expect_equal(whole.model, second.model);
  EXPECT_EQ(whole.trainer.place().num_tokens, second.trainer.place().num_tokens);
}

TEST(Trainer, GoesBackWhileTheNextStepIsPrepared) {
  const auto sequences = random_sequences({12, 5, 9, 14, 7}, 14);
  SmallRun run(options_of(2), sequences);
  const TrainingPlace begin = run.trainer.place();
  const auto losses = [&] {
    std::vector<double> values;
    for (int i = 0; i < 3; ++i) values.push_back(run.trainer.step().loss.item<double>());
    return values;
  };
  const auto before = run.trainer.optimizer().state();
  std::vector<torch::Tensor> state;
  for (const TrainedTensor& tensor : before) state.push_back(tensor.tensor.clone());
  const std::vector<double> expected = losses();
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < state.size(); ++i) before[i].tensor.copy_(state[i]);
  }
  run.trainer.restore(begin);
  EXPECT_EQ(losses(), expected);
}

TEST(Trainer, CountsTheWorkOfMatricesAndVisiblePairs) {
  TrainerOptions options = options_of(1);
  auto sequences = random_sequences({10}, 15);
  sequences[0].weights.assign(10, 1.0F);
  SmallRun run(options, sequences);
  const double layer = 24 * 64 + 32 * 24 + 3 * 24 * 40;  // q, k, v; out; gate, up, down
  const double matrices = 6 * (10 * 3 * layer + 9 * 24 * TinyModel::kVocabSize);
  const double pairs = 3 * 4.0 * 3 * 4 * 8 * (10 * 11 / 2);
  EXPECT_DOUBLE_EQ(run.trainer.step().flops, matrices + pairs);
}

TEST(Trainer, LossFallsOnARepeatedText) {
  std::vector<TrainingSequence> sequences(1);
  for (int i = 0; i < 48; ++i) sequences[0].tokens.push_back(i * i % 13);
  TrainerOptions options = options_of(1);
  options.learning_rate.peak = 5e-3;
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    TinyModel model(TinyModel::shape(), 1, type);
    Trainer trainer(model.llama, model.all_tensors(), std::make_shared<MemoryDataset>(sequences),
                    next_token(), std::vector<Mask>(3, Mask::causal()), options);
    const double first = trainer.step().loss.item<double>();
    double last = first;
    for (int i = 0; i < 60; ++i) last = trainer.step().loss.item<double>();
    EXPECT_GT(first, 3.0);
    EXPECT_LT(last, 0.2);
  }
}

LoraOptions small_lora() {
  return {.rank = 2, .alpha = 4, .targets = {"q_proj", "v_proj", "down_proj"}};
}

TEST(Lora, ChangesNothingAtFirstAndTrainsItselfAlone) {
  TinyModel model;
  const TrainInput input = input_of(packed(random_sequences({14}, 16)));
  const auto before = model.copies();
  const torch::Tensor plain = model.llama.train_forward(input).hidden;
  const auto trained = add_lora(model.llama, small_lora(), 5);
  EXPECT_EQ(trained.size(), 3U * 3 * 2);
  EXPECT_TRUE(torch::equal(model.llama.train_forward(input).hidden, plain));
  for (const bool recompute : {false, true}) {
    TrainerOptions options = options_of(1);
    options.recompute = recompute;
    Trainer trainer(model.llama, trained,
                    std::make_shared<MemoryDataset>(random_sequences({14}, 17)), next_token(),
                    std::vector<Mask>(3, Mask::causal()), options);
    std::vector<torch::Tensor> adapters;
    for (const TrainedTensor& tensor : trained) adapters.push_back(tensor.tensor.detach().clone());
    for (int i = 0; i < 3; ++i) trainer.step();
    for (std::size_t i = 0; i < trained.size(); ++i) {
      EXPECT_FALSE(torch::equal(trained[i].tensor, adapters[i])) << trained[i].name;
    }
  }
  const auto after = model.copies();
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], after[i]));
  EXPECT_GT(error_between(model.llama.train_forward(input).hidden, plain), 1e-3);
}

// Adapters with values that matter.
void fill(const std::vector<TrainedTensor>& tensors) {
  const at::NoGradGuard no_grad;
  for (const TrainedTensor& tensor : tensors) {
    tensor.tensor.copy_(
        torch::linspace(-0.3, 0.5, tensor.tensor.numel()).view(tensor.tensor.sizes()));
  }
}

TEST(Lora, MergedWeightsAreTheModelWithAdapters) {
  const at::NoGradGuard no_grad;
  TinyModel model;
  fill(add_lora(model.llama, small_lora(), 5));
  const TrainInput input = input_of(packed(random_sequences({14, 3}, 18)));
  const torch::Tensor apart = model.llama.train_forward(input).hidden;
  model.llama.merge_adapters();
  EXPECT_LT(error_between(model.llama.train_forward(input).hidden, apart), 1e-5);
}

TEST(Lora, FilesAreReadBackInAnyRowOrder) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  const TrainInput input = input_of(packed(random_sequences({14, 3}, 19)));
  for (const RotaryLayout layout : {RotaryLayout::kHalfSplit, RotaryLayout::kInterleaved}) {
    ModelConfig config = TinyModel::shape();
    config.rotary.layout = layout;
    TinyModel model(config);
    const auto tensors = add_lora(model.llama, small_lora(), 5);
    fill(tensors);
    const torch::Tensor expected = model.llama.train_forward(input).hidden;
    write_lora(folder.file("adapter"), {.base = "base"}, small_lora(), model.llama, tensors);
    TinyModel other(config);
    read_lora(folder.file("adapter"), other.llama);
    EXPECT_TRUE(torch::equal(other.llama.train_forward(input).hidden, expected));
  }
}

TEST(Lora, FilesHoldRowsOfTheEmbedding) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  const TrainInput input = input_of(packed(random_sequences({14, 3}, 19)));
  TinyModel model;
  const auto tensors = add_lora(model.llama, small_lora(), 5);
  model.llama.embedding_weight()[3].fill_(0.25);
  const AdapterTexts texts{
      .base = "base", .diffusion_json = R"({"attention": "full"})", .tokens = {3}};
  write_lora(folder.file("adapter"), texts, small_lora(), model.llama, tensors);
  TinyModel other;
  const torch::Tensor before = other.llama.embedding_weight().clone();
  read_lora(folder.file("adapter"), other.llama);
  EXPECT_TRUE(torch::equal(other.llama.embedding_weight(), model.llama.embedding_weight()));
  EXPECT_FALSE(torch::equal(other.llama.embedding_weight(), before));
}

TEST(Lora, SaysWhatDoesNotFit) {
  const TemporaryFolder folder;
  TinyModel model;
  LoraOptions options = small_lora();
  options.targets = {"head"};
  EXPECT_THROW(add_lora(model.llama, options, 5), InvalidArgument);
  options = small_lora();
  write_lora(folder.file("adapter"), {.base = "base"}, options, model.llama,
             add_lora(model.llama, options, 5));
  ModelConfig wider = TinyModel::shape();
  wider.ffn_dim = 56;
  TinyModel other(wider);
  EXPECT_THROW(read_lora(folder.file("adapter"), other.llama), IoError);
}

}  // namespace
}  // namespace perpend
