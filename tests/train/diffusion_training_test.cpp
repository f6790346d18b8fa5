// Diffusion language models under training: no row learns from what it may not see, the passes that
// train are those that decode, and a run goes on where it stood.

#include <numeric>

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "perpend/cache/kv_sequence.h"
#include "perpend/core/concat.h"
#include "perpend/models/kv_store_config.h"
#include "tests/train/tiny_noising.h"

namespace perpend {
namespace {

torch::Tensor hidden_of(const TinyModel& model, const TrainingSequence& sequence,
                        const Mask& mask) {
  const at::NoGradGuard no_grad;
  return model.llama.train_forward(input_of(packed({sequence}), mask)).hidden;
}

TrainingSequence part_of(const TrainingSequence& sequence, std::int64_t begin, std::int64_t end) {
  TrainingSequence part;
  part.tokens.assign(sequence.tokens.begin() + begin, sequence.tokens.begin() + end);
  return part;
}

// Each row reads a token of its own, so that the gradient of a token's embedding is that of a row.
TEST(DiffusionLeaks, NoLossReachesARowThatItMayNotSee) {
  constexpr std::int64_t kLength = 10;
  for (const Attention attention : kAttentions) {
    const TinyModel model;
    TrainingSequence rows = noised(answered_text(0, kLength, 41), small_diffusion(attention, 2));
    const DiffusionFormula formula{attention, kLength, 4, 2};
    std::iota(rows.tokens.begin(), rows.tokens.end(), 0);
    rows.targets.assign(rows.tokens.size(), 3);
    PackedBatch batch = packed({rows});
    const torch::Tensor embedding = model.llama.named_parameters().front().tensor;
    embedding.requires_grad_(true);
    const TrainOutput output = model.llama.train_forward(input_of(batch));
    const LossInput input{batch, output.hidden, model.llama.head_weight(), {}};
    for (std::int64_t row = 0; row < batch.num_rows(); ++row) {
      batch.weights.assign(batch.weights.size(), 0.0F);
      batch.weights[static_cast<std::size_t>(row)] = 1;
      const torch::Tensor loss =
          formula.is_clean(row) ? NextTokenLoss().sum(input) : MaskedTokenLoss().sum(input);
      const auto gradient = torch::autograd::grad({loss}, {embedding}, {}, /*retain_graph=*/true);
      for (std::int64_t other = 0; other < batch.num_rows(); ++other) {
        const bool reached = gradient[0][other].abs().max().item<float>() != 0;
        EXPECT_EQ(reached, formula.visible(row, other)) << row << " reads " << other;
      }
    }
  }
}

TEST(DiffusionTraining, NoisedBlocksAreThoseOfDecoding) {
  const TinyModel model;
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const std::int64_t length = 16;
    const TrainingSequence text = answered_text(3, length - 3, 42);
    const TrainingSequence rows = noised(text, small_diffusion(attention, 2));
    const torch::Tensor hidden = hidden_of(model, rows, Mask::causal());
    for (int view = 0; view < 2; ++view) {
      for (std::int64_t begin = 0; begin < length; begin += 4) {
        // The clean text before a block, and the block as it is noised.
        TrainingSequence decoded = part_of(text, 0, begin);
        const TrainingSequence block =
            part_of(rows, view * length + begin, view * length + begin + 4);
        decoded.tokens.insert(decoded.tokens.end(), block.tokens.begin(), block.tokens.end());
        const Mask mask =
            parse_mask(attention == Attention::kBlock ? std::string("block_causal(4)")
                                                      : concat("block_decode(4, ", begin, ")"));
        const torch::Tensor expected = hidden_of(model, decoded, mask).narrow(0, begin, 4);
        EXPECT_LT(error_between(hidden.narrow(0, view * length + begin, 4), expected), 1e-5);
      }
    }
    const Mask clean = parse_mask(attention == Attention::kBlock ? "block_causal(4)" : "causal");
    EXPECT_LT(error_between(hidden.narrow(0, 2 * length, length), hidden_of(model, text, clean)),
              1e-5);
  }
}

// Logits of `block` behind clean tokens, decoded: those before it are in the cache as their own
// mask makes them, the block runs under `block_mask`.
torch::Tensor decoded_logits(const TinyModel& model, const std::vector<std::int32_t>& clean,
                             const Mask& clean_mask, const std::vector<std::int32_t>& block,
                             const Mask& block_mask) {
  const ModelConfig& config = model.llama.config();
  KvStore store(kv_store_config(config, DType::kF32, config.context_length));
  KvSequence sequence(store);
  Runtime runtime{2};
  const auto run = [&](const std::vector<std::int32_t>& tokens, const Mask& mask,
                       const std::vector<std::int32_t>& logit_rows) {
    const std::int64_t begin = sequence.length();
    const auto count = static_cast<std::int64_t>(tokens.size());
    EXPECT_TRUE(sequence.append(count));
    const KvRows rows{&sequence, begin, count, begin + count};
    const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers), mask);
    return model.llama.forward({tokens, {&rows, 1}, masks, logit_rows}, runtime.context()).clone();
  };
  if (!clean.empty()) run(clean, clean_mask, {});
  std::vector<std::int32_t> all(block.size());
  std::iota(all.begin(), all.end(), 0);
  return run(block, block_mask, all);
}

TEST(DiffusionTraining, LogitsOfNoisedBlocksAreThoseOfTheDecoder) {
  const TinyModel model;
  const at::NoGradGuard no_grad;
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const std::int64_t length = 16;
    const TrainingSequence text = answered_text(3, length - 3, 45);
    const TrainingSequence rows = noised(text, small_diffusion(attention, 2));
    const torch::Tensor logits =
        hidden_of(model, rows, Mask::causal()).matmul(model.llama.head_weight().t());
    for (int view = 0; view < 2; ++view) {
      for (std::int64_t begin = 0; begin < length; begin += 4) {
        const std::int64_t first = view * length + begin;
        const Mask mask =
            parse_mask(attention == Attention::kBlock ? std::string("block_causal(4)")
                                                      : concat("block_decode(4, ", begin, ")"));
        const torch::Tensor decoded =
            decoded_logits(model, part_of(text, 0, begin).tokens,
                           attention == Attention::kBlock ? mask : Mask::causal(),
                           part_of(rows, first, first + 4).tokens, mask);
        EXPECT_LT(error_between(logits.narrow(0, first, 4), decoded), 1e-5) << begin;
      }
    }
  }
}

// So an adapted model begins where the base model ended.
TEST(DiffusionTraining, TheNextTokenLossOfACleanCopyIsThatOfTheTextAlone) {
  const TinyModel model;
  const at::NoGradGuard no_grad;
  const TrainingSequence text = answered_text(3, 20, 46);
  const auto loss_of = [&](const TrainingSequence& sequence) {
    const PackedBatch batch = packed({sequence});
    const TrainOutput output = model.llama.train_forward(input_of(batch));
    const LossInput input{batch, output.hidden, model.llama.head_weight(), {}};
    return NextTokenLoss().sum(input).item<double>();
  };
  const double alone = loss_of(text);
  for (const std::int64_t block_size : {1, 4, 8}) {
    NoisingOptions options = small_diffusion(Attention::kContextCausal, 2);
    options.block_size = {.first = block_size, .last = block_size};
    EXPECT_NEAR(loss_of(noised(text, options)), alone, 1e-5 * alone);
  }
}

// The losses of a batch as a step makes them, and the gradients of all weights.
struct LossesAndGradients {
  LossesAndGradients(const TinyModel& model, const std::vector<TrainingSequence>& sequences,
                     double next_token_weight) {
    const PackedBatch batch = packed(sequences);
    const auto parameters = model.llama.named_parameters();
    for (const auto& [parts, tensor] : parameters) {
      tensor.requires_grad_(true).mutable_grad().reset();
    }
    const TrainOutput output = model.llama.train_forward(input_of(batch));
    const LossInput input{batch, output.hidden, model.llama.head_weight(), {}};
    torch::Tensor sum = torch::zeros({});
    const MaskedTokenLoss masked;
    if (masked.count(batch) > 0) sum = sum + masked.sum(input);
    if (next_token_weight > 0) sum = sum + next_token_weight * NextTokenLoss().sum(input);
    sum.backward();
    loss = sum.item<double>();
    for (const auto& [parts, tensor] : parameters) gradients.push_back(tensor.grad().clone());
  }

  double loss = 0;
  std::vector<torch::Tensor> gradients;
};

TEST(DiffusionTraining, ViewsThatShareACleanCopyAreTwoWholeInputs) {
  const TinyModel model;
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const std::int64_t length = 14;
    const TrainingSequence rows =
        noised(answered_text(3, length - 3, 43), small_diffusion(attention, 2));
    std::vector<TrainingSequence> apart(2);
    for (std::int64_t view = 0; view < 2; ++view) {
      TrainingSequence& input = apart[static_cast<std::size_t>(view)];
      const auto append = [&](std::int64_t begin) {
        const auto add = [&](auto& to, const auto& from) {
          to.insert(to.end(), from.begin() + begin, from.begin() + begin + length);
        };
        add(input.tokens, rows.tokens);
        add(input.positions, rows.positions);
        add(input.targets, rows.targets);
        add(input.weights, rows.weights);
      };
      append(view * length);
      append(2 * length);
      input.num_noised = length;
      input.mask = diffusion_mask(attention, length, 4, 1);
    }
    const LossesAndGradients shared(model, {rows}, 0);
    const LossesAndGradients whole(model, apart, 0);
    EXPECT_NEAR(shared.loss, whole.loss, 1e-4);
    for (std::size_t i = 0; i < shared.gradients.size(); ++i) {
      EXPECT_LT(error_between(shared.gradients[i], whole.gradients[i]), 1e-5);
    }
  }
}

TEST(DiffusionTraining, BlocksOfOneTokenAreAutoregressiveTraining) {
  const TinyModel model;
  const TrainingSequence text = answered_text(3, 20, 44);
  NoisingOptions options = small_diffusion(Attention::kContextCausal, 1);
  options.first_of_block = false;
  options.block_size = {.first = 1, .last = 4, .factor = 2, .interval = 10};
  const LossesAndGradients found(model, {noised(text, options)}, 0.5);
  const LossesAndGradients expected(model, {text}, 1);
  EXPECT_EQ(found.loss, expected.loss / 2);
  for (std::size_t i = 0; i < found.gradients.size(); ++i) {
    EXPECT_TRUE(torch::equal(found.gradients[i], expected.gradients[i] / 2));
  }
}

struct DiffusionRun {
  explicit DiffusionRun(const NoisingOptions& diffusion, std::vector<TrainingSequence> texts,
                        double learning_rate = 1e-2) {
    TrainerOptions options;
    options.batch = {.sequences = 2, .tokens = 0, .shuffle = true, .seed = 1};
    options.batch.transform = std::make_shared<NoisedCopies>(diffusion);
    options.learning_rate.peak = learning_rate;
    std::vector<WeightedLoss> losses = {{std::make_shared<MaskedTokenLoss>(), 1.0}};
    if (diffusion.clean_targets) losses.push_back({std::make_shared<NextTokenLoss>(), 0.5});
    trainer = std::make_unique<Trainer>(model.llama, model.all_tensors(),
                                        std::make_shared<MemoryDataset>(std::move(texts)), losses,
                                        std::vector<Mask>(3, Mask::causal()), options);
  }

  TinyModel model;
  std::unique_ptr<Trainer> trainer;
};

TEST(DiffusionTraining, ARunThatGrowsBlocksGoesOnAnywhere) {
  NoisingOptions options = small_diffusion(Attention::kContextCausal, 2);
  options.first_of_block = false;
  options.block_size = {.first = 1, .last = 4, .factor = 2, .interval = 2};
  DiffusionRun whole(options, answered_texts());
  std::vector<std::size_t> parts;
  for (int i = 0; i < 6; ++i) parts.push_back(whole.trainer->step().parts.size());
  EXPECT_EQ(parts, (std::vector<std::size_t>{1, 1, 2, 2, 2, 2}));
  DiffusionRun first(options, answered_texts());
  for (int i = 0; i < 3; ++i) first.trainer->step();
  DiffusionRun second(options, answered_texts());
  const auto from = first.trainer->optimizer().state();
  const auto to = second.trainer->optimizer().state();
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_(from[i].tensor);
  }
  second.trainer->restore(first.trainer->place());
  for (int i = 0; i < 3; ++i) second.trainer->step();
  const auto expected = whole.model.copies();
  const auto found = second.model.copies();
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(torch::equal(found[i], expected[i]));
  // Tokens are those of the texts, not their copies.
  EXPECT_EQ(whole.trainer->place().num_tokens, second.trainer->place().num_tokens);
  EXPECT_LT(whole.trainer->place().num_tokens, 6 * 2 * 17);
}

TEST(DiffusionTraining, LossFallsOnTextThatCanBeTold) {
  std::vector<TrainingSequence> texts(4);
  for (std::size_t text = 0; text < texts.size(); ++text) {
    for (int i = 0; i < 16; ++i) {
      texts[text].tokens.push_back(static_cast<int>(text) * 10 + i % 5);
      texts[text].weights.push_back(i < 4 ? 0.0F : 1.0F);
    }
  }
  for (const Attention attention : kAttentions) {
    DiffusionRun run(small_diffusion(attention, 2), texts, 5e-3);
    const double first = run.trainer->step().parts[0].second.item<double>();
    for (int i = 0; i < 40; ++i) run.trainer->step();
    const double last = run.trainer->step().parts[0].second.item<double>();
    EXPECT_LT(last, 0.4 * first) << static_cast<int>(attention);
  }
}

}  // namespace
}  // namespace perpend
