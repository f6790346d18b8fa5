#include "perpend/mask/bound_mask.h"

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

constexpr std::int64_t kSize = 12;
constexpr Sweep kSweeps[] = {Sweep::kRows, Sweep::kColumns};

// What the definition says of a pair along a sweep.
bool live(const Mask& mask, Sweep sweep, std::int64_t outer, std::int64_t inner, HeadIndex head) {
  return sweep == Sweep::kRows ? mask.visible(outer, inner, head)
                               : mask.visible(inner, outer, head);
}

Answer brute_force(const Mask& mask, Sweep sweep, Range outer, Range inner, HeadIndex head) {
  bool any = false;
  bool all = true;
  for (std::int64_t o = outer.begin; o < outer.end; ++o) {
    for (std::int64_t i = inner.begin; i < inner.end; ++i) {
      any |= live(mask, sweep, o, i, head);
      all &= live(mask, sweep, o, i, head);
    }
  }
  if (all) return Answer::kAll;
  return any ? Answer::kSome : Answer::kNone;
}

HeadIndex random_head(Random& random) {
  const int head = static_cast<int>(random.next_below(8));
  return {head, head / 2};
}

// Half of the masks fit all shapes, half sequences of `length`.
Mask some_mask(Random& random, std::int64_t scale, std::int64_t length) {
  return random.next_below(2) == 0 ? random_mask(random, scale)
                                   : random_mask_of_length(random, scale, length);
}

TEST(BoundMask, PairsAreThoseOfTheDefinition) {
  Random random(1);
  for (int i = num_trials(600); i > 0; --i) {
    const Mask mask = some_mask(random, kSize, kSize);
    const HeadIndex head = random_head(random);
    const BoundMask bound(mask, head);
    for (std::int64_t q = 0; q < kSize; ++q) {
      for (std::int64_t k = 0; k < kSize; ++k) {
        ASSERT_EQ(bound.visible(q, k), mask.visible(q, k, head))
            << mask << " q " << q << " k " << k << " head " << head.q_head;
      }
    }
  }
}

void for_all_rectangles(const std::function<void(Range, Range)>& visit) {
  for (std::int64_t a = 0; a < kSize; ++a) {
    for (std::int64_t b = a + 1; b <= kSize; ++b) {
      for (std::int64_t c = 0; c < kSize; ++c) visit({a, b}, {c, kSize});
    }
  }
}

TEST(BoundMask, PairsAreSteadyUpToWhereItSays) {
  Random random(11);
  for (int i = num_trials(150); i > 0; --i) {
    const Mask mask = some_mask(random, kSize, kSize);
    const HeadIndex head = random_head(random);
    const BoundMask bound(mask, head);
    for (const Sweep sweep : kSweeps) {
      for_all_rectangles([&](Range outer, Range inner) {
        const std::int64_t end = bound.steady_end(sweep, outer, inner);
        ASSERT_GT(end, inner.begin) << mask;
        ASSERT_LE(end, inner.end) << mask;
        for (std::int64_t o = outer.begin; o < outer.end; ++o) {
          for (std::int64_t p = inner.begin + 1; p < end; ++p) {
            ASSERT_EQ(live(mask, sweep, o, p, head), live(mask, sweep, o, inner.begin, head))
                << mask << ": " << outer << " x " << inner << ", sweep " << static_cast<int>(sweep);
          }
        }
      });
    }
  }
}

TEST(BoundMask, SteadyRangesReachAsFarAsTheyDo) {
  const auto end = [](const char* mask, Range outer) {
    return BoundMask(parse_mask(mask)).steady_end(Sweep::kRows, outer, {100, 1000});
  };
  EXPECT_EQ(end("causal", {300, 400}), 301);
  EXPECT_EQ(end("causal & (same(block(200)) | q_in(block(200), 2))", {390, 410}), 200);
  EXPECT_EQ(end("causal", {90, 130}), 101);
  EXPECT_EQ(end("~sink(500)", {90, 130}), 500);
}

TEST(BoundMask, StretchesNeverContradictAPair) {
  Random random(2);
  for (int i = num_trials(150); i > 0; --i) {
    const Mask mask = some_mask(random, kSize, kSize);
    const HeadIndex head = random_head(random);
    const BoundMask bound(mask, head);
    for (const Sweep sweep : kSweeps) {
      for_all_rectangles([&](Range outer, Range inner) {
        const auto part = bound.stretch(sweep, outer, inner);
        ASSERT_TRUE(inner.begin < part.end && part.end <= inner.end) << mask << outer << inner;
        if (part.answer == Answer::kSome) return;
        ASSERT_EQ(part.answer, brute_force(mask, sweep, outer, {inner.begin, part.end}, head))
            << mask << outer << inner << " columns " << (sweep == Sweep::kColumns);
      });
    }
  }
}

// Of one primitive, over one outer position, everything can be told.
TEST(BoundMask, StretchesOfOnePositionAreExact) {
  Random random(3);
  for (int i = num_trials(600); i > 0; --i) {
    const Mask mask = random.next_below(2) == 0 ? random_mask(random, kSize, 0)
                                                : random_mask_of_length(random, kSize, kSize, 0);
    if (mask.str().substr(0, 5) == "tiles") continue;  // their bitmaps are looked at by words alone
    const BoundMask bound(mask);
    for (const Sweep sweep : kSweeps) {
      for (std::int64_t outer = 0; outer < kSize; ++outer) {
        for (std::int64_t begin = 0; begin < kSize; ++begin) {
          const auto part = bound.stretch(sweep, {outer, outer + 1}, {begin, kSize});
          const bool empty_window =
              part.answer == Answer::kSome && mask.str().substr(0, 6) == "window";
          ASSERT_TRUE(part.answer != Answer::kSome || empty_window)
              << mask << outer << " " << begin;
        }
      }
    }
  }
}

TEST(BoundMask, WordsAreSixtyFourPairs) {
  Random random(4);
  for (int i = num_trials(1500); i > 0; --i) {
    const Mask mask = some_mask(random, 200, 400);
    const HeadIndex head = random_head(random);
    const auto outer = static_cast<std::int64_t>(random.next_below(400));
    const auto first = static_cast<std::int64_t>(random.next_below(336));
    for (const Sweep sweep : kSweeps) {
      const std::uint64_t word = BoundMask(mask, head).word(sweep, outer, first);
      for (std::int64_t bit = 0; bit < 64; ++bit) {
        ASSERT_EQ((word >> bit & 1U) != 0, live(mask, sweep, outer, first + bit, head))
            << mask << " outer " << outer << " inner " << first + bit;
      }
    }
  }
}

TEST(BoundMask, EqualClassesHaveEqualBits) {
  Random random(5);
  for (int i = num_trials(120); i > 0; --i) {
    const Mask mask = some_mask(random, 10, 24);
    const BoundMask bound(mask);
    for (const Sweep sweep : kSweeps) {
      std::map<std::vector<std::int64_t>, std::vector<bool>> seen;
      for (std::int64_t outer = 0; outer <= 19; ++outer) {
        for (std::int64_t inner = 0; inner <= 20; ++inner) {
          std::vector<std::int64_t> key;
          bound.append_class(sweep, {outer, outer + 5}, {inner, inner + 4}, key);
          std::vector<bool> bits;
          for (std::int64_t p = 0; p < 20; ++p) {
            bits.push_back(live(mask, sweep, outer + p / 4, inner + p % 4, {}));
          }
          ASSERT_EQ(seen.try_emplace(key, bits).first->second, bits)
              << mask << " " << outer << " " << inner;
        }
      }
    }
  }
}

// Heads whose every() begins elsewhere name their rectangles alike.
TEST(BoundMask, ClassesAreSharedByHeadsThatDifferInPhase) {
  const Mask mask = parse_mask("causal & (near(2, 3) | every(2, 5, 1) & ~every(3, 2, 1))");
  std::map<std::vector<std::int64_t>, std::vector<bool>> seen;
  for (int head = 0; head < 6; ++head) {
    const BoundMask bound(mask, {head, head});
    ASSERT_TRUE(bound.shares_classes(BoundMask(mask, {0, 0})));
    for (std::int64_t outer = 0; outer <= 40; ++outer) {
      for (std::int64_t inner = 0; inner <= 40; ++inner) {
        std::vector<std::int64_t> key;
        bound.append_class(Sweep::kRows, {outer, outer + 5}, {inner, inner + 4}, key);
        std::vector<bool> bits;
        for (std::int64_t p = 0; p < 20; ++p) {
          bits.push_back(live(mask, Sweep::kRows, outer + p / 4, inner + p % 4, {head, head}));
        }
        ASSERT_EQ(seen.try_emplace(key, bits).first->second, bits)
            << "head " << head << " " << outer << " " << inner;
      }
    }
  }
  const auto bound = [](const char* text) { return BoundMask(parse_mask(text)); };
  EXPECT_FALSE(bound("every(2, 5)").shares_classes(bound("every(2, 4)")));
  EXPECT_FALSE(bound("window(3)").shares_classes(bound("window(4)")));
}

TEST(BoundMask, ManyWordsAreWordsOneByOne) {
  Random random(6);
  for (int i = num_trials(400); i > 0; --i) {
    const BoundMask bound(some_mask(random, 200, 400), random_head(random));
    const auto first = static_cast<std::int64_t>(random.next_below(200));
    const Range outer{first, first + 1 + static_cast<std::int64_t>(random.next_below(200))};
    const auto inner = static_cast<std::int64_t>(random.next_below(336));
    for (const Sweep sweep : kSweeps) {
      std::vector<std::uint64_t> words(static_cast<std::size_t>(3 * outer.size()));
      bound.words(sweep, outer, inner, words.data(), 3);
      for (std::int64_t o = outer.begin; o < outer.end; ++o) {
        ASSERT_EQ(words[static_cast<std::size_t>(3 * (o - outer.begin))],
                  bound.word(sweep, o, inner));
      }
    }
  }
}

// A walk asks from left to right, as planning does, and now and then again further left.
TEST(BoundMask, WalksAnswerAsTheMaskDoes) {
  Random random(7);
  for (int i = num_trials(300); i > 0; --i) {
    const Mask mask = some_mask(random, 30, 60);
    const BoundMask bound(mask, random_head(random));
    const auto first = static_cast<std::int64_t>(random.next_below(50));
    const Range outer{first, first + 1 + static_cast<std::int64_t>(random.next_below(10))};
    for (const Sweep sweep : kSweeps) {
      MaskWalk walk(bound, sweep, outer);
      for (std::int64_t begin = 0; begin < 60;
           begin += random.next_below(9) == 0 ? -begin / 2 : 1) {
        const Range inner{begin, begin + 1 + static_cast<std::int64_t>(random.next_below(30))};
        const auto part = walk.stretch(inner);
        const auto fresh = bound.stretch(sweep, outer, inner);
        ASSERT_TRUE(inner.begin < part.end && part.end <= inner.end) << mask;
        ASSERT_EQ(part.answer, fresh.answer) << mask << outer << inner;
      }
    }
  }
}

std::size_t num_classes(const char* mask_text, const char* bindings, std::int64_t length,
                        std::int64_t tile) {
  const BoundMask bound(parse_mask(mask_text).bind(parse_bindings(bindings)));
  std::map<std::vector<std::int64_t>, int> classes;
  for (std::int64_t q = 0; q + tile <= length; q += tile) {
    for (std::int64_t k = 0; k + tile <= length; k += tile) {
      if (bound.answer({q, q + tile}, {k, k + tile}) != Answer::kSome) continue;
      std::vector<std::int64_t> key;
      bound.append_class(Sweep::kRows, {q, q + tile}, {k, k + tile}, key);
      ++classes[key];
    }
  }
  return classes.size();
}

TEST(BoundMask, TranslatedTilesShareClasses) {
  EXPECT_EQ(num_classes("causal", "", 4096, 64), 1U);
  EXPECT_LE(num_classes("causal & (sink(64) | window(448))", "", 4096, 64), 4U);
  EXPECT_LE(num_classes("causal & (near(64, 4) | every(64, 16))", "", 4096, 64), 2U);
  EXPECT_LE(num_classes("block_diffusion(2048, 32)", "", 4096, 64), 3U);
  // Documents of two tiles and a half, all alike: what differs is where a tile stands in them.
  EXPECT_LE(num_classes("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 24))",
                        "doc = segments(160*24, 256)", 4096, 64),
            16U);
}

TEST(BoundMask, HeadsThatSeeAlikeAreEqual) {
  const Mask mask = parse_mask("heads(0-3: causal & window(8); rest: causal & every(4, 3, 1))");
  EXPECT_EQ(BoundMask(mask, {0, 0}), BoundMask(mask, {3, 1}));
  EXPECT_EQ(BoundMask(mask, {0, 0}).hash(), BoundMask(mask, {3, 1}).hash());
  EXPECT_NE(BoundMask(mask, {3, 0}), BoundMask(mask, {4, 0}));
  EXPECT_NE(BoundMask(mask, {4, 0}), BoundMask(mask, {4, 1}));
  EXPECT_EQ(BoundMask(mask, {4, 0}), BoundMask(mask, {7, 3}));
  EXPECT_EQ(BoundMask(parse_mask("causal & ~~all | none")), BoundMask(Mask::causal()));
  // Names do not matter, what they are bound to does.
  const Bindings four = parse_bindings("a = block(4); b = block(4); c = block(5)");
  const auto bound = [&](const char* text) { return BoundMask(parse_mask(text).bind(four)); };
  EXPECT_EQ(bound("same(a)"), bound("same(b)"));
  EXPECT_EQ(bound("same(a)"), bound("same(block(4))"));
  EXPECT_NE(bound("same(a)"), bound("same(c)"));
}

TEST(BoundMask, StartsOfSegmentsForTilesThatBeginThere) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  const auto starts = [](const char* text, Sweep sweep = Sweep::kRows) {
    return BoundMask(parse_mask(text)).starts(sweep, {0, 100});
  };
  EXPECT_THAT(starts("causal"), IsEmpty());
  EXPECT_THAT(starts("causal & same(segments(30*2, 40))"), ElementsAre(30, 60));
  EXPECT_THAT(starts("upto(block(32)) | q_in(copy(50), 1)"), ElementsAre(32, 50, 64, 96));
  EXPECT_THAT(starts("q_in(copy(50), 1)", Sweep::kColumns), IsEmpty());
  EXPECT_THAT(starts("same(block(2))"), IsEmpty());
  EXPECT_THAT(starts("same(within(50, block(20)))"), ElementsAre(20, 40, 50, 70, 90));
}

TEST(BoundMask, NamesTheLabelThatIsMissing) {
  const auto error_of = [](const char* text, HeadIndex head = {}) -> std::string {
    try {
      BoundMask(parse_mask(text), head);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  using testing::HasSubstr;
  EXPECT_THAT(error_of("causal & same(doc)"), HasSubstr("the label 'doc' is not bound"));
  EXPECT_THAT(error_of("k_in(within(4, doc), 1)"), HasSubstr("the label 'doc' is not bound"));
  EXPECT_THAT(error_of("tiles(map)"), HasSubstr("the tile map 'map' is not bound"));
  EXPECT_THAT(error_of("heads(0-3: causal)", {4, 0}), HasSubstr("no mask for head 4"));
}

}  // namespace
}  // namespace perpend
