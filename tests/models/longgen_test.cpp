#include "perpend/models/longgen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/models/model_config.h"

namespace perpend {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(LongGen, DefaultsAreThePapers) {
  using enum LongGen::Variant;
  EXPECT_EQ(default_longgen(kSink, 32), (LongGen{kSink, 64, 12, 10, 1, 31, 0, 0}));
  EXPECT_EQ(default_longgen(kStrided, 80), (LongGen{kStrided, 64, 30, 25, 0, 16, 128, 0}));
  EXPECT_EQ(default_longgen(kSink, 30).n_full, 11);
  EXPECT_EQ(default_longgen(kSink, 1).n_full, 0);
  // A strict third of 32 and of 80 layers.
  EXPECT_EQ(hourglass_start(11, 32), 10);
  EXPECT_EQ(hourglass_start(27, 80), 26);
}

TEST(LongGen, PresetsReadWhatTheySay) {
  using enum LongGen::Variant;
  EXPECT_EQ(parse_preset("longgen-as", 32, 32), default_longgen(kSink, 32));
  EXPECT_EQ(parse_preset(" longgen-bs ( ) ", 32, 32), default_longgen(kStrided, 32));
  EXPECT_EQ(parse_preset("longgen-as(n_full=4, sink=1, window=7, block=32)", 12, 8),
            (LongGen{kSink, 32, 4, 4, 1, 7, 0, 0}));
  EXPECT_EQ(parse_preset("longgen-bs(lo=0,n_full=3,window=8,stride=64,sink=2,head_shift=5)", 32, 8),
            (LongGen{kStrided, 64, 3, 0, 2, 8, 64, 5}));
  EXPECT_EQ(parse_preset("longgen-bs(head_shift=auto)", 32, 8).head_shift, 16);
  EXPECT_EQ(parse_preset("longgen-bs(head_shift=auto, stride=4)", 32, 8).head_shift, 1);
  EXPECT_EQ(parse_preset("longgen-as(n_full=0)", 32, 8).lo, 16);
}

TEST(LongGen, PresetsPrintAsWhatReadsBack) {
  for (const char* text :
       {"longgen-as", "longgen-bs(head_shift=auto)", "longgen-as(n_full=12, lo=3)"}) {
    const LongGen longgen = parse_preset(text, 32, 8);
    EXPECT_EQ(parse_preset(concat(longgen), 32, 8), longgen) << longgen;
  }
}

TEST(LongGen, WrongPresetsAreNamed) {
  const auto expect_fault = [](const char* text, const std::string& fault) {
    EXPECT_THAT([&] { parse_preset(text, 32, 8); },
                ThrowsMessage<InvalidArgument>(HasSubstr(fault)))
        << text;
  };
  expect_fault("", "column 1: expected longgen-as or longgen-bs");
  expect_fault("longgen", "column 1: expected longgen-as or longgen-bs, found 'longgen'");
  expect_fault("longgen-cs", "expected longgen-as or longgen-bs");
  expect_fault("longgen-as(", "column 12: expected one of block, n_full");
  expect_fault("longgen-as(windows=3)", "column 12: expected one of block, n_full");
  expect_fault("longgen-as(window=0)", "column 19: window: expected an integer from 1 to");
  expect_fault("longgen-as(window=x)", "column 19");
  expect_fault("longgen-as(window=auto)", "column 19");
  expect_fault("longgen-as(window=-1)", "column 19");
  expect_fault("longgen-as(window=3, window=4)", "column 22: window is given twice");
  expect_fault("longgen-as(window 3)", "after window");
  expect_fault("longgen-as(window=3", "after the parameters");
  expect_fault("longgen-as()x", "the end of the preset");
  expect_fault("longgen-as(n_full=33)", "longgen.n_full: expected at most 32 (layers), found 33");
  expect_fault("longgen-as(n_full=12, lo=21)", "longgen.lo: expected at most 20");
  expect_fault("longgen-as(stride=8)", "longgen.stride_blocks: expected 0 for the variant as");
  expect_fault("longgen-as(head_shift=1)", "longgen.head_shift: expected 0 for the variant as");
  expect_fault("longgen-bs(stride=0)", "longgen.stride_blocks: expected at least 1");
  expect_fault("longgen-as(block=99999999999999999999)", "");
}

TEST(LongGen, LayersHaveThePapersMasks) {
  const LongGen longgen = parse_preset(
      "longgen-bs(n_full=2, block=4, window=2, stride=3, sink=1, "
      "head_shift=1)",
      7, 2);
  const std::vector<Mask> masks = layer_masks(longgen, 7);
  ASSERT_EQ(masks.size(), 7U);
  for (int layer = 0; layer < 7; ++layer) {
    for (int head = 0; head < 2; ++head) {
      for (std::int64_t i = 0; i < 40; ++i) {
        for (std::int64_t j = 0; j < 40; ++j) {
          const bool near = i / 4 - j / 4 < 2;
          const bool far = (j / 4 + head) % 3 == 0 || j / 4 < 1;
          const bool full = layer == 2 || layer == 3;
          ASSERT_EQ(masks[static_cast<std::size_t>(layer)].visible(i, j, {head, head}),
                    j <= i && (full || near || far))
              << layer << " " << i << " " << j;
        }
      }
    }
  }
}

// For kb < qb: what the next block of queries sees, this one sees too, so that nothing that was
// dropped is ever wanted again. Every setting that the configuration accepts, small ones all.
TEST(LongGen, NothingIsSeenAgainThatWasOnceUnseen) {
  constexpr std::int64_t kBlocks = 14;
  std::int64_t num_accepted = 0;
  for (const auto variant : {LongGen::Variant::kSink, LongGen::Variant::kStrided}) {
    for (std::int64_t s = 0; s <= 3; ++s) {
      for (std::int64_t w = 0; w <= 4; ++w) {
        for (std::int64_t r = 0; r <= 5; ++r) {
          for (std::int64_t shift = 0; shift <= 2; ++shift) {
            const LongGen longgen{variant, 1, 0, 0, s, w, r, shift};
            if (!longgen_fault(longgen, 4).empty()) continue;
            ++num_accepted;
            const Mask mask = sparse_mask(longgen);
            for (int head = 0; head < 3; ++head) {
              for (std::int64_t qb = 0; qb < kBlocks; ++qb) {
                ASSERT_TRUE(mask.visible(qb, qb, {head, head})) << longgen;
                for (std::int64_t kb = 0; kb < qb; ++kb) {
                  ASSERT_TRUE(!mask.visible(qb + 1, kb, {head, head}) ||
                              mask.visible(qb, kb, {head, head}))
                      << longgen << " " << qb << " " << kb;
                }
              }
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(num_accepted, 4 * 4 + 4 * 4 * 5 * 3);
}

TEST(LongGen, ChangesAreChecked) {
  ModelConfig config;
  config.num_layers = 4;
  config.num_kv_heads = 1;
  EXPECT_EQ(default_masks(config), std::vector<Mask>(4, Mask::causal()));
  const ModelConfig hybrid =
      changed(config, {.preset = "longgen-as(n_full=2)", .rope_theta = 5e6F, .context_length = 99});
  EXPECT_EQ(hybrid.rotary.theta, 5e6F);
  EXPECT_EQ(hybrid.context_length, 99);
  EXPECT_EQ(default_masks(hybrid)[1], Mask::causal());
  EXPECT_EQ(default_masks(hybrid)[0], parse_mask("longgen_sink(64, 1, 31)"));
  EXPECT_THROW(changed(config, {.rope_theta = -1.0F}), InvalidArgument);
  EXPECT_THROW(changed(config, {.context_length = 0}), InvalidArgument);
  EXPECT_THROW(changed(config, {.preset = "longgen-as(n_full=5)"}), InvalidArgument);
}

}  // namespace
}  // namespace perpend
