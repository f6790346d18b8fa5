// Training of diffusion language models: what the copies of a text see, what is noised and counted.
// Numbers are those of sections 2 and 7 of the three papers' losses; sums are written out again.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/train/batch_reader.h"
#include "perpend/train/chunked_dataset.h"
#include "perpend/train/noised_copies.h"
#include "perpend/train/noising.h"
#include "perpend/train/padded_dataset.h"
#include "tests/train/tiny_noising.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(BlockGrowth, DoublesAtEachInterval) {
  const BlockGrowth growth{.first = 1, .last = 32, .factor = 2, .interval = 500};
  const std::vector<std::pair<std::int64_t, std::int64_t>> expected = {
      {0, 1},     {499, 1},   {500, 2},   {999, 2},      {1000, 4},
      {2499, 16}, {2500, 32}, {3000, 32}, {1L << 50, 32}};
  for (const auto& [step, size] : expected) EXPECT_EQ(growth.at(step), size) << step;
  const BlockGrowth late{.first = 2, .last = 16, .factor = 3, .interval = 10, .delay = 25};
  EXPECT_EQ(late.at(34), 2);
  EXPECT_EQ(late.at(35), 6);
  EXPECT_EQ(late.at(45), 16);
  EXPECT_EQ(BlockGrowth({.first = 8, .last = 8}).at(7), 8);
}

TEST(DiffusionMask, IsTheFormulaOfThePapers) {
  for (const Attention attention : kAttentions) {
    for (const int views : {1, 2}) {
      for (const auto& [n, b] :
           {std::pair<std::int64_t, std::int64_t>{12, 4}, {10, 3}, {7, 1}, {5, 8}}) {
        const DiffusionFormula formula{attention, n, b, views};
        const Mask mask = diffusion_mask(attention, n, b, views);
        for (std::int64_t q = 0; q < formula.num_rows(); ++q) {
          for (std::int64_t k = 0; k < formula.num_rows(); ++k) {
            ASSERT_EQ(mask.visible(q, k), formula.visible(q, k)) << mask << " at " << q << "," << k;
          }
        }
      }
    }
  }
}

std::int64_t visible_pairs_of(const Mask& mask, std::int64_t length) {
  std::int64_t count = 0;
  for (std::int64_t q = 0; q < length; ++q) {
    for (std::int64_t k = 0; k < length; ++k) count += mask.visible(q, k) ? 1 : 0;
  }
  return count;
}

TEST(DiffusionMask, HasAsManyPairsAsThePaperCounts) {
  constexpr std::int64_t n = 24;
  constexpr std::int64_t b = 4;
  constexpr std::int64_t blocks = n / b;
  constexpr std::int64_t noised = n * b + b * b * blocks * (blocks - 1) / 2;
  EXPECT_EQ(visible_pairs_of(diffusion_mask(Attention::kContextCausal, n, b, 1), 2 * n),
            noised + n * (n + 1) / 2);
  EXPECT_EQ(visible_pairs_of(diffusion_mask(Attention::kContextCausal, n, b, 2), 3 * n),
            2 * noised + n * (n + 1) / 2);
  EXPECT_EQ(visible_pairs_of(diffusion_mask(Attention::kBlock, n, b, 2), 3 * n),
            2 * noised + b * b * blocks * (blocks + 1) / 2);
}

TEST(NoisedCopies, ViewsAreComplementaryAndPromptsAreNeverMasked) {
  const TrainingSequence text = answered_text(/*prompt=*/7, /*answer=*/25, 1);
  for (const Attention attention : kAttentions) {
    const TrainingSequence rows = noised(text, small_diffusion(attention, /*views=*/2));
    const std::size_t n = text.tokens.size();
    ASSERT_EQ(rows.num_noised, static_cast<std::int64_t>(2 * n));
    ASSERT_EQ(rows.tokens.size(), attention == Attention::kFull ? 2 * n : 3 * n);
    std::size_t terms = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const int masked = (rows.tokens[i] == kMaskToken) + (rows.tokens[n + i] == kMaskToken);
      EXPECT_EQ(masked, text.weights[i] > 0 ? 1 : 0) << i;
      for (std::size_t row = i; row < rows.tokens.size(); row += n) {
        EXPECT_EQ(rows.positions[row], static_cast<std::int32_t>(i));
        if (row >= 2 * n || rows.tokens[row] != kMaskToken) {
          EXPECT_EQ(rows.tokens[row], text.tokens[i]);
          continue;
        }
        // The row before it predicts it, at its whole weight.
        EXPECT_EQ(rows.targets[row - 1], text.tokens[i]);
        EXPECT_EQ(rows.weights[row - 1], text.weights[i]);
        ++terms;
      }
    }
    EXPECT_EQ(terms, 25U);
    const auto positive = std::count_if(rows.weights.begin(), rows.weights.end(),
                                        [](float weight) { return weight > 0; });
    EXPECT_EQ(positive, attention == Attention::kContextCausal ? 50 : 25);
  }
}

TEST(NoisedCopies, LossesAreMeansOverLearntTokensHoweverManyAreMasked) {
  TrainingSequence text = answered_text(0, 20, 2);  // its first token has no row before it
  text.weights[5] = 0.5F;
  for (const Attention attention : kAttentions) {
    for (const int views : {1, 2}) {
      for (const std::int64_t number : {0, 1, 2}) {
        const PackedBatch batch = packed({noised(text, small_diffusion(attention, views), number)});
        EXPECT_EQ(MaskedTokenLoss().count(batch), 18.5);
        EXPECT_EQ(NextTokenLoss().count(batch),
                  attention == Attention::kContextCausal ? 18.5 : 0.0);
      }
    }
  }
  NoisingOptions unshifted = small_diffusion(Attention::kFull, 1);
  unshifted.shift = false;
  const TrainingSequence rows = noised(text, unshifted);
  EXPECT_EQ(MaskedTokenLoss().count(packed({rows})), 19.5);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(rows.targets[i], text.tokens[i]);
    EXPECT_EQ(rows.weights[i] > 0, rows.tokens[i] == kMaskToken);
  }
}

TEST(NoisedCopies, TheFirstOfABlockCanBeLeftOut) {
  const TrainingSequence text = answered_text(3, 18, 3);
  NoisingOptions options = small_diffusion(Attention::kContextCausal, 2);
  options.first_of_block = false;
  const TrainingSequence rows = noised(text, options);
  for (std::size_t row = 0; row + 1 < 2 * text.tokens.size(); ++row) {
    const std::size_t i = (row + 1) % text.tokens.size();
    const bool is_target = rows.tokens[row + 1] == kMaskToken && i % 4 != 0;
    EXPECT_EQ(rows.weights[row] > 0, is_target) << row;
  }
  EXPECT_EQ(MaskedTokenLoss().count(packed({rows})), 18);
  // Blocks of one token are nothing but first ones: the clean text remains.
  options.block_size = {.first = 1, .last = 4, .factor = 2, .interval = 10};
  const TrainingSequence causal = noised(text, options, 0, /*step=*/9);
  EXPECT_EQ(causal.tokens, text.tokens);
  EXPECT_EQ(causal.num_noised, 0);
  EXPECT_EQ(*causal.mask, Mask::causal());
  EXPECT_EQ(noised(text, options, 0, /*step=*/10).num_noised, 42);
}

// Shares of masked tokens over many draws, of blocks of 8.
struct MaskedShares {
  explicit MaskedShares(NoisingOptions options) {
    options.block_size = {.first = 8, .last = 8};
    const TrainingSequence text = answered_text(0, 32, 4);
    for (std::int64_t number = 0; number < kDraws; ++number) {
      const TrainingSequence rows = noised(text, options, number);
      const auto is_masked = [&](std::size_t i) { return rows.tokens[i] == kMaskToken; };
      bool whole_block = true;
      for (std::size_t i = 0; i < 32; ++i) one += is_masked(i) / 32.0;
      for (std::size_t i = 8; i < 16; ++i) whole_block &= is_masked(i);
      block += whole_block;
      same_block += is_masked(9) && is_masked(14);
      other_block += is_masked(9) && is_masked(24);
      for (std::size_t i = 0; i < 32; ++i) {
        weight += rows.weights[i] / 31.0;
        largest = std::max(largest, rows.weights[i]);
      }
    }
    for (double* share : {&one, &block, &same_block, &other_block, &weight}) *share /= kDraws;
  }

  static constexpr int kDraws = 4000;
  double one = 0;          // of all tokens
  double block = 0;        // of a whole block
  double same_block = 0;   // of two tokens of one
  double other_block = 0;  // of two tokens of two blocks
  double weight = 0;       // mean over learnt tokens
  float largest = 0;
};

TEST(NoisedCopies, LevelsAreUniformInEachBlockOrSequence) {
  NoisingOptions options = small_diffusion(Attention::kBlock, 1);
  // Six standard deviations of 4000 draws of a coin are 0.047; t uniform: E t = 1/2, E t^2 = 1/3,
  // E t^8 = 1/9.
  const MaskedShares by_block(options);
  EXPECT_NEAR(by_block.one, 1 / 2.0, 0.02);
  EXPECT_NEAR(by_block.block, 1 / 9.0, 0.03);
  EXPECT_NEAR(by_block.same_block, 1 / 3.0, 0.045);
  EXPECT_NEAR(by_block.other_block, 1 / 4.0, 0.041);
  options.noise_unit = NoisingOptions::NoiseUnit::kSequence;
  const MaskedShares by_sequence(options);
  EXPECT_NEAR(by_sequence.block, 1 / 9.0, 0.03);
  EXPECT_NEAR(by_sequence.other_block, 1 / 3.0, 0.045);
}

TEST(NoisedCopies, InverseWeightsMakeEachTokenCountOnce) {
  NoisingOptions options = small_diffusion(Attention::kBlock, 1);
  EXPECT_NEAR(MaskedShares(options).weight, 0.5, 0.02);
  options.inverse_weight = true;
  const MaskedShares whole(options);
  EXPECT_NEAR(whole.weight, 1.0, 0.15);
  EXPECT_GT(whole.largest, 5);
  options.max_weight = 5;
  const MaskedShares clipped(options);
  EXPECT_EQ(clipped.largest, 5);
  // The integral of min(5, 1 / p) p is 0.8 + 5 0.2^2 / 2.
  EXPECT_NEAR(clipped.weight, 0.9, 0.03);
}

TEST(NoisedCopies, NoiseIsAFunctionOfTheSeedAndTheNumberOfTheExample) {
  const TrainingSequence text = answered_text(2, 30, 5);
  NoisingOptions options = small_diffusion(Attention::kBlock, 1);
  const auto tokens = noised(text, options, 6).tokens;
  EXPECT_EQ(noised(text, options, 6, /*step=*/99).tokens, tokens);
  EXPECT_NE(noised(text, options, 7).tokens, tokens);
  TrainingSequence less = text;
  less.weights[20] = 0;
  auto expected = tokens;
  expected[20] = less.tokens[20];
  EXPECT_EQ(noised(less, options, 6).tokens, expected);
  options.seed = 8;
  EXPECT_NE(noised(text, options, 6).tokens, tokens);
}

TEST(NoisedCopies, BatchesOfAnySizeHoldTheSameRows) {
  const auto data = std::make_shared<MemoryDataset>(answered_texts());
  const auto transform =
      std::make_shared<NoisedCopies>(small_diffusion(Attention::kContextCausal, 2));
  const auto rows_of = [&](std::int64_t sequences, std::int64_t from) {
    BatchOptions options{.sequences = sequences, .seed = 3};
    options.transform = transform;
    BatchReader reader(data, options);
    reader.seek(from);
    std::vector<std::int32_t> rows;
    while (reader.num_read() < 12) {
      const PackedBatch batch = reader.next();
      EXPECT_EQ(3 * batch.num_tokens, batch.num_rows());
      rows.insert(rows.end(), batch.tokens.begin(), batch.tokens.end());
    }
    return rows;
  };
  const auto all = rows_of(1, 0);
  EXPECT_EQ(rows_of(3, 0), all);
  EXPECT_EQ(rows_of(4, 0), all);
  const auto rest = rows_of(3, 6);
  EXPECT_TRUE(std::equal(rest.rbegin(), rest.rend(), all.rbegin()));
}

template <class F>
std::string diffusion_error(F f) {
  try {
    f();
    return "";
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

TEST(NoisedCopies, SaysWhatDoesNotFit) {
  const auto error_of_change = [](Attention attention, auto change) {
    NoisingOptions options = small_diffusion(attention, 1);
    change(options);
    return diffusion_error([&] { NoisedCopies copies(options); });
  };
  using Options = NoisingOptions&;
  const auto block_error = [&](auto change) { return error_of_change(Attention::kBlock, change); };
  EXPECT_EQ(block_error([](Options) {}), "");
  EXPECT_THAT(block_error([](Options o) { o.views = 3; }), HasSubstr("1 or 2 views"));
  EXPECT_THAT(block_error([](Options o) { o.block_size.first = 0; }), HasSubstr("at least one"));
  EXPECT_THAT(block_error([](Options o) { o.clean_targets = true; }), HasSubstr("causal clean"));
  EXPECT_THAT(block_error([](Options o) {
                o.views = 2;
                o.inverse_weight = true;
              }),
              HasSubstr("without 1 / p"));
  EXPECT_THAT(block_error([](Options o) { o.shift = o.first_of_block = false; }),
              HasSubstr("only with shift"));
  EXPECT_THAT(block_error([](Options o) {
                o.block_size.first = 1;
                o.first_of_block = false;
              }),
              HasSubstr("nothing to learn"));
  EXPECT_THAT(error_of_change(Attention::kFull,
                              [](Options o) { o.noise_unit = NoisingOptions::NoiseUnit::kBlock; }),
              HasSubstr("a whole sequence"));

  const auto text_error = [](auto change) {
    TrainingSequence text = answered_text(2, 6, 6);
    change(text);
    return diffusion_error([&] { noised(text, small_diffusion(Attention::kBlock, 1), 12); });
  };
  using Text = TrainingSequence&;
  EXPECT_EQ(text_error([](Text text) { text.tokens[1] = kMaskToken; }), "");
  EXPECT_THAT(text_error([](Text text) { text.tokens[4] = kMaskToken; }),
              HasSubstr("is to be learnt at token 4 of the example that is read as number 12"));
  EXPECT_THAT(text_error([](Text text) { text.positions.assign(8, 0); }), HasSubstr("noised"));
  EXPECT_THAT(text_error([](Text text) { text.weights.pop_back(); }),
              HasSubstr("differ in number"));
}

TEST(PackedBatch, SequencesMayBringCountsCopiesAndMasks) {
  std::vector<TrainingSequence> sequences(2);
  sequences[0].tokens = {1, 2, 3};
  sequences[0].targets = {5, 6, kNoTarget};
  sequences[0].counts = {1, 0.5F, 2};
  sequences[0].num_noised = 2;
  sequences[1].tokens = {4, 5};
  sequences[1].weights = {1, 0.25F};
  PackedBatch batch = packed(sequences);
  EXPECT_THAT(batch.counts, ElementsAre(1, 0.5F, 2, 0.25F, 0));
  EXPECT_EQ(batch.noised_rows(0), (Range{0, 2}));
  EXPECT_EQ(batch.clean_rows(0), (Range{2, 3}));
  EXPECT_EQ(batch.noised_rows(1), (Range{3, 3}));
  EXPECT_EQ(MaskedTokenLoss().count(batch), 1.5);
  EXPECT_EQ(NextTokenLoss().count(batch), 2.25);
  const MaskBinder binder({Mask::causal(), Mask::all()});
  EXPECT_EQ(*binder.bind(batch)[1], std::vector<Mask>{Mask::all()});
  sequences[1].mask = Mask::none();
  EXPECT_THAT(diffusion_error([&] { packed(sequences); }),
              HasSubstr("not all examples have a mask"));
  sequences[0].mask = Mask::window(2);
  batch = packed(sequences);
  EXPECT_EQ(*binder.bind(batch)[1], (std::vector<Mask>{Mask::window(2), Mask::none()}));
  sequences[0].mask = Mask::none();
  EXPECT_EQ(*binder.bind(packed(sequences))[0], std::vector<Mask>{Mask::none()});
  sequences[1].mask.reset();
  EXPECT_THAT(diffusion_error([&] { packed(sequences); }),
              HasSubstr("not all examples have a mask"));
  sequences[1].num_noised = 3;
  EXPECT_THAT(diffusion_error([&] { packed(sequences); }),
              HasSubstr("3 of 2 rows can not be noised"));
  sequences[0].counts[1] = -1;
  EXPECT_THAT(diffusion_error([&] { packed(sequences); }), HasSubstr("count -1 is negative"));
}

TEST(PaddedDataset, FillsBlocksAndCanvases) {
  std::vector<TrainingSequence> texts(2);
  texts[0].tokens = {1, 2, 3};
  texts[1].tokens = {4, 5, 6, 7, 8, 9};
  texts[0].weights = {0, 1, 1};
  const auto data = std::make_shared<MemoryDataset>(texts);
  const PaddedDataset blocks(data, {.multiple = 3, .token = 40});
  EXPECT_EQ(blocks.num_tokens(0), 3);
  EXPECT_EQ(blocks.num_tokens(1), 6);
  const PaddedDataset wide(data, {.multiple = 4, .token = 40});
  EXPECT_EQ(wide.size(), 2);
  EXPECT_EQ(wide.num_tokens(1), 8);
  EXPECT_THAT(wide.get(0, 0).tokens, ElementsAre(1, 2, 3, 40));
  EXPECT_THAT(wide.get(0, 0).weights, ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(wide.get(1, 0).weights, ElementsAre(1, 1, 1, 1, 1, 1, 0, 0));
  const PaddedDataset canvas(data, {.length = 5, .token = 2, .weight = 1});
  EXPECT_THAT(canvas.get(0, 0).tokens, ElementsAre(1, 2, 3, 2, 2));
  EXPECT_THAT(canvas.get(0, 0).weights, ElementsAre(0, 1, 1, 1, 1));
  EXPECT_EQ(canvas.num_tokens(1), 6);
  texts[0].positions = {0, 1, 2};
  EXPECT_THROW(PaddedDataset(std::make_shared<MemoryDataset>(texts), {}).get(0, 0),
               InvalidArgument);
  EXPECT_THROW(PaddedDataset(data, {.multiple = 0}), InvalidArgument);
}

TEST(ChunkedDataset, CutsTextThatIsToBeNoised) {
  std::vector<TrainingSequence> texts(3);
  texts[0].tokens = {1, 2, 3, 4};
  texts[1].tokens = {5, 6, 7};
  texts[1].weights = {0, 0, 1};
  texts[2].tokens = {8, 9};
  const ChunkedDataset chunks(std::make_shared<MemoryDataset>(texts), 3,
                              ChunkedDataset::LastRow::kNothing);
  ASSERT_EQ(chunks.size(), 3);
  EXPECT_THAT(chunks.get(1, 0).tokens, ElementsAre(4, 5, 6));
  EXPECT_THAT(chunks.get(1, 0).weights, ElementsAre(1, 0, 0));
  EXPECT_TRUE(chunks.get(1, 0).targets.empty());
  EXPECT_THAT(chunks.get(2, 0).tokens, ElementsAre(7, 8, 9));
}

}  // namespace
}  // namespace perpend
