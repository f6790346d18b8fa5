// The recorded forward pass of a model: what must not matter does not, and what must does.

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/models/rotary_rows.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

// A scalar that depends on everything a pass yields.
torch::Tensor some_loss(const TrainOutput& output, const torch::Tensor& head) {
  torch::Tensor loss = output.hidden.matmul(head.t()).pow(2).sum();
  for (const auto& [layer, heads] : output.captured) {
    loss = loss + heads.q.pow(3).sum() + heads.k.pow(3).sum();
  }
  return loss;
}

std::vector<torch::Tensor> gradients_of(const TinyModel& model, const TrainInput& input) {
  const auto tensors = model.llama.named_parameters();
  for (const auto& [parts, tensor] : tensors) tensor.requires_grad_(true).mutable_grad().reset();
  some_loss(model.llama.train_forward(input), model.llama.head_weight()).backward();
  std::vector<torch::Tensor> gradients;
  for (const auto& [parts, tensor] : tensors) gradients.push_back(tensor.grad().clone());
  return gradients;
}

TEST(TrainForward, RecomputingChangesNoBit) {
  const TinyModel model;
  TrainInput input = input_of(packed(random_sequences({9, 1, 20}, 3)));
  input.captured_layers = {1};
  const auto kept = gradients_of(model, input);
  input.recompute = true;
  const auto recomputed = gradients_of(model, input);
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(kept[i], recomputed[i]));
}

TEST(TrainForward, PackedSequencesAreThoseAlone) {
  const TinyModel model;
  const auto sequences = random_sequences({9, 1, 20, 5}, 4);
  const TrainOutput together = model.llama.train_forward(input_of(packed(sequences)));
  std::vector<torch::Tensor> alone;
  for (const TrainingSequence& sequence : sequences) {
    alone.push_back(model.llama.train_forward(input_of(packed({sequence}))).hidden);
  }
  EXPECT_LT(error_between(together.hidden, torch::cat(alone)), 1e-6);
}

TEST(TrainForward, PackedGradientsAreTheSumOfThoseAlone) {
  const TinyModel model;
  const auto sequences = random_sequences({9, 1, 20}, 5);
  const auto together = gradients_of(model, input_of(packed(sequences)));
  std::vector<torch::Tensor> sum(together.size());
  for (const TrainingSequence& sequence : sequences) {
    const auto alone = gradients_of(model, input_of(packed({sequence})));
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] = sum[i].defined() ? sum[i] + alone[i] : alone[i];
    }
  }
  for (std::size_t i = 0; i < sum.size(); ++i) EXPECT_LT(error_between(together[i], sum[i]), 1e-5);
}

TEST(TrainForward, LabelsOfEachSequenceBindItsMask) {
  const TinyModel model;
  auto sequences = random_sequences({12, 12}, 6);
  sequences[0].labels["doc"] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1};
  sequences[1].labels["doc"] = {0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3};
  const Mask mask = parse_mask("causal & same(doc)");
  const auto hidden = model.llama.train_forward(input_of(packed(sequences), mask)).hidden;
  // Documents that do not see each other are sequences alone, at their positions.
  std::vector<torch::Tensor> alone;
  for (const TrainingSequence& sequence : sequences) {
    std::size_t begin = 0;
    for (std::size_t end = 1; end <= 12; ++end) {
      const auto& doc = sequence.labels.at("doc");
      if (end < 12 && doc[end] == doc[begin]) continue;
      TrainingSequence part;
      for (std::size_t i = begin; i < end; ++i) {
        part.tokens.push_back(sequence.tokens[i]);
        part.positions.push_back(static_cast<std::int32_t>(i));
      }
      alone.push_back(model.llama.train_forward(input_of(packed({part}))).hidden);
      begin = end;
    }
  }
  EXPECT_LT(error_between(hidden, torch::cat(alone)), 1e-6);
}

TEST(TrainForward, PositionsAreAnInput) {
  const TinyModel model;
  auto sequences = random_sequences({16}, 7);
  const auto plain = model.llama.train_forward(input_of(packed(sequences))).hidden;
  for (int i = 0; i < 16; ++i) sequences[0].positions.push_back(100 + i);
  const auto moved = model.llama.train_forward(input_of(packed(sequences))).hidden;
  EXPECT_LT(error_between(moved, plain), 1e-4);  // only distances count
  for (int i = 8; i < 16; ++i) sequences[0].positions[static_cast<std::size_t>(i)] += 50;
  const auto gap = model.llama.train_forward(input_of(packed(sequences))).hidden;
  EXPECT_LT(error_between(gap.narrow(0, 0, 8), plain.narrow(0, 0, 8)), 1e-4);
  EXPECT_GT(error_between(gap, plain), 1e-2);
}

TEST(TrainForward, InterleavedRowsTurnAsHalfSplitOnes) {
  const TinyModel half_split;
  ModelConfig config = TinyModel::shape();
  config.rotary.layout = RotaryLayout::kInterleaved;
  const TinyModel interleaved(config);
  for (const auto& [parts, tensor] : interleaved.llama.named_parameters()) {
    for (const NamedParameter::Part& part : parts) {
      if (!is_of_turned_rows(part.name)) continue;
      torch::Tensor rows = tensor.narrow(0, part.first_row, part.num_rows);
      const torch::Tensor stored = rows.clone();
      rows.copy_(from_half_split(stored, config));
      EXPECT_TRUE(torch::equal(to_half_split(rows, config), stored));
    }
  }
  const TrainInput input = input_of(packed(random_sequences({30}, 8)));
  EXPECT_LT(error_between(interleaved.llama.train_forward(input).hidden,
                          half_split.llama.train_forward(input).hidden),
            1e-6);
}

TEST(TrainForward, SaysWhatIsWrong) {
  const TinyModel model;
  PackedBatch batch = packed(random_sequences({4}, 9));
  batch.tokens[2] = TinyModel::kVocabSize;
  EXPECT_THROW(model.llama.train_forward(input_of(batch)), InvalidArgument);
  batch.tokens[2] = 0;
  batch.positions[3] = 256;
  EXPECT_THROW(model.llama.train_forward(input_of(batch)), InvalidArgument);
  EXPECT_THROW(input_of(batch, parse_mask("same(doc)")), InvalidArgument);
}

}  // namespace
}  // namespace perpend
