#include "perpend/mask/mask.h"

#include <array>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

constexpr std::int64_t kSize = 12;

// The definitions of the manual, written a second time.
TEST(Mask, PrimitivesAreTheirDefinitions) {
  for (std::int64_t q = 0; q < kSize; ++q) {
    for (std::int64_t k = 0; k < kSize; ++k) {
      EXPECT_TRUE(Mask::all().visible(q, k));
      EXPECT_FALSE(Mask::none().visible(q, k));
      EXPECT_EQ(Mask::causal().visible(q, k), k <= q);
      for (std::int64_t w = 0; w < 5; ++w) {
        EXPECT_EQ(Mask::window(w).visible(q, k), q - w < k);
        EXPECT_EQ(Mask::sink(w).visible(q, k), k < w);
        for (std::int64_t r = 0; r < 4; ++r) {
          EXPECT_EQ(Mask::window(w, r).visible(q, k), q - w < k && k < q + r);
        }
      }
    }
  }
}

// Each primitive as the manual has it, with a label of each kind, over all small pairs.
TEST(Mask, LabelsAndBlocksAreTheirDefinitions) {
  const Bindings bindings = parse_bindings("doc = segments(2, 3*2, 4)");
  for (const char* text : {"block(3)", "within(5, block(2))", "copy(4)", "doc"}) {
    const Label label = bindings.bind(parse_label(text));
    const auto at = [&](std::int64_t p) { return label.at(p); };
    for (std::int64_t q = 0; q < kSize; ++q) {
      for (std::int64_t k = 0; k < kSize; ++k) {
        EXPECT_EQ(Mask::same(label).visible(q, k), at(k) == at(q));
        EXPECT_EQ(Mask::upto(label).visible(q, k), at(k) <= at(q));
        EXPECT_EQ(Mask::before(label).visible(q, k), at(k) < at(q));
        EXPECT_EQ(Mask::q_in(label, {2, 0}).visible(q, k), at(q) == 0 || at(q) == 2);
        EXPECT_EQ(Mask::k_in(label, {1}).visible(q, k), at(k) == 1);
        const std::vector<std::string> rows = {"1010", "0110", "1000", "0001"};
        const auto cell = [&](std::int64_t r, std::int64_t c) {
          return r < 4 && c < 4 &&
                 rows[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)] == '1';
        };
        EXPECT_EQ(Mask::table(label, rows).visible(q, k), cell(at(q), at(k)));
      }
    }
  }
  for (std::int64_t q = 0; q < kSize; ++q) {
    for (std::int64_t k = 0; k < kSize; ++k) {
      for (int g = 0; g < 3; ++g) {
        EXPECT_EQ(Mask::every(2, 3, 2).visible(q, k, {2 * g, g}), (k / 2 + 2 * g) % 3 == 0);
        EXPECT_EQ(Mask::every(2, 3).visible(q, k, {2 * g, g}), (k / 2) % 3 == 0);
        const Mask split = Mask::heads({{{{0, 1}, {4, 4}}, Mask::causal()}}, Mask::sink(2));
        EXPECT_EQ(split.visible(q, k, {g, 0}), g <= 1 ? k <= q : k < 2);
      }
      for (std::int64_t n = 0; n < 4; ++n) {
        EXPECT_EQ(Mask::near(3, n).visible(q, k), q / 3 - k / 3 < n);
      }
    }
  }
}

TEST(Mask, TilesAreLookedUp) {
  TileMap::Tiles tiles{.tile_q = 2, .tile_k = 3, .num_columns = 3};
  tiles.row_begin = {0, 2, 2, 3};
  tiles.columns = {0, 2, 1};
  tiles.bitmaps = {TileMap::kFull, 0, 1};
  tiles.words = {0b101, 0b010, 0b000, 0b111};
  const Mask mask = Mask::tiles("map").bind(Bindings().set("map", TileMap(tiles)));
  const std::vector<std::string> expected = {"111000101", "111000010", "000000000",
                                             "000000000", "000000000", "000111000"};
  for (std::int64_t q = 0; q < 6; ++q) {
    for (std::int64_t k = 0; k < 9; ++k) {
      EXPECT_EQ(mask.visible(q, k),
                expected[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)] == '1');
    }
  }
  EXPECT_FALSE(mask.visible(6, 0));
  EXPECT_EQ(mask.str(), "tiles(map)");
  const auto wrong = [&](auto change) {
    TileMap::Tiles changed = tiles;
    change(changed);
    EXPECT_THROW(TileMap{changed}, InvalidArgument);
  };
  wrong([](auto& t) { t.tile_q = 0; });
  wrong([](auto& t) { t.columns = {2, 0, 1}; });
  wrong([](auto& t) { t.columns = {0, 3, 1}; });
  wrong([](auto& t) { t.bitmaps = {0, 1, 2}; });
  wrong([](auto& t) { t.bitmaps = {0, 1, TileMap::kDead}; });
  wrong([](auto& t) { t.row_begin = {0, 2, 1, 3}; });
  wrong([](auto& t) { t.row_begin = {0, 2}; });
  wrong([](auto& t) { t.words.pop_back(); });
  wrong([](auto& t) { t.bitmaps.pop_back(); });
}

TEST(Mask, OperatorsAreLogic) {
  Random random(3);
  for (int i = num_trials(200); i > 0; --i) {
    const Mask a = random_mask(random, kSize);
    const Mask b = random_mask(random, kSize);
    const Mask de_morgan = ~(~a | ~b);
    for (std::int64_t q = 0; q < kSize; ++q) {
      for (std::int64_t k = 0; k < kSize; ++k) {
        EXPECT_EQ((a & b).visible(q, k), a.visible(q, k) && b.visible(q, k));
        EXPECT_EQ((a | b).visible(q, k), a.visible(q, k) || b.visible(q, k));
        EXPECT_EQ((~a).visible(q, k), !a.visible(q, k));
        EXPECT_EQ(de_morgan.visible(q, k), (a & b).visible(q, k));
      }
    }
  }
}

TEST(Mask, SimplificationKeepsIdentities) {
  const Mask m = parse_mask("causal & window(4)");
  EXPECT_EQ(m & Mask::all(), m);
  EXPECT_EQ(m | Mask::none(), m);
  EXPECT_EQ(m & Mask::none(), Mask::none());
  EXPECT_EQ(m | Mask::all(), Mask::all());
  EXPECT_EQ(m & m, m);
  EXPECT_EQ(m | m, m);
  EXPECT_EQ(~~m, m);
  EXPECT_EQ((m & Mask::sink(2)) & Mask::sink(3), m & (Mask::sink(2) & Mask::sink(3)));
  EXPECT_EQ(m & ~m, Mask::none());
  EXPECT_EQ(m | ~m, Mask::all());
  EXPECT_EQ(m & (m | Mask::sink(2)), m);
  EXPECT_EQ(Mask::sink(2) | (m & Mask::sink(2)), Mask::sink(2));
  EXPECT_EQ(parse_mask("heads(0: causal; rest: causal)"), Mask::causal());
  EXPECT_EQ(Mask::all_of({}), Mask::all());
  EXPECT_EQ(Mask::any_of({}), Mask::none());
}

// Laws of a Boolean algebra, over all small pairs of random expressions.
TEST(Mask, LawsHold) {
  Random random(6);
  for (int i = num_trials(150); i > 0; --i) {
    const auto any = [&] { return random_mask_of_length(random, kSize, kSize, 2); };
    const Mask a = any();
    const Mask b = any();
    const Mask c = any();
    const std::pair<Mask, Mask> laws[] = {{a & b, b & a},
                                          {a | b, b | a},
                                          {(a & b) & c, a & (b & c)},
                                          {(a | b) | c, a | (b | c)},
                                          {a & (b | c), (a & b) | (a & c)},
                                          {a | (b & c), (a | b) & (a | c)},
                                          {~(a & b), ~a | ~b},
                                          {~(a | b), ~a & ~b},
                                          {a & (a | b), a},
                                          {a | (a & b), a},
                                          {a & ~a, Mask::none()},
                                          {a | ~a, Mask::all()},
                                          {~~a, a},
                                          {Mask::all_of(std::array{a, b, c}), a & b & c},
                                          {Mask::any_of(std::array{a, b, c}), a | b | c}};
    for (const auto& [left, right] : laws) {
      for (std::int64_t p = 0; p < kSize * kSize; ++p) {
        const HeadIndex head{static_cast<int>(p % 7), static_cast<int>(p % 3)};
        ASSERT_EQ(left.visible(p / kSize, p % kSize, head),
                  right.visible(p / kSize, p % kSize, head))
            << left << "  against  " << right;
      }
    }
  }
}

TEST(Mask, NamesAreBoundLater) {
  const Mask mask = parse_mask("causal & (same(doc) | k_in(within(8, part), 0)) | tiles(map)");
  EXPECT_EQ(mask.unbound_names(), (std::vector<std::string>{"doc", "part", "map"}));
  EXPECT_THROW(mask.visible(3, 1), InvalidArgument);
  const Mask half = mask.bind(parse_bindings("doc = block(2)"));
  EXPECT_EQ(half.unbound_names(), (std::vector<std::string>{"part", "map"}));
  EXPECT_EQ(half.str(), mask.str());
  EXPECT_NE(half, mask);
  TileMap::Tiles none{.tile_q = 4, .tile_k = 4, .num_columns = 0};
  none.row_begin = {0};
  const Mask whole =
      half.bind(parse_bindings("doc = block(5); part = copy(1)").set("map", TileMap(none)));
  EXPECT_TRUE(whole.unbound_names().empty());
  EXPECT_TRUE(whole.visible(3, 2));
  EXPECT_FALSE(whole.visible(4, 3));  // doc stays what it was bound to first
  EXPECT_EQ(whole.bind(parse_bindings("doc = block(9)")), whole);
}

TEST(Mask, PrintedTextIsParsedBack) {
  Random random(4);
  for (int i = num_trials(2000); i > 0; --i) {
    const Mask mask = random_mask(random, 1000, 5);
    const Mask back = parse_mask(mask.str());
    EXPECT_EQ(back, mask) << mask;
    EXPECT_EQ(back.hash(), mask.hash());
  }
}

TEST(Mask, BindingStrengths) {
  EXPECT_EQ(parse_mask("causal|sink(1)&~window(2)"),
            Mask::causal() | (Mask::sink(1) & ~Mask::window(2)));
  EXPECT_EQ(parse_mask(" ( causal | sink( 1 ) ) & window( 2 , 3 ) "),
            (Mask::causal() | Mask::sink(1)) & Mask::window(2, 3));
}

std::string error_of(std::string_view text) {
  try {
    parse_mask(text);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(Mask, ErrorsNameColumnAndExpectation) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of("causal & windw(3)"), HasSubstr("column 10: unknown word 'windw'"));
  EXPECT_THAT(error_of("causal & windw(3)"), HasSubstr("did you mean 'window'"));
  EXPECT_THAT(error_of("banana"), HasSubstr("expected all, none, causal"));
  EXPECT_THAT(error_of(""), HasSubstr("column 1: unexpected end"));
  EXPECT_THAT(error_of("causal &"), HasSubstr("column 9: unexpected end"));
  EXPECT_THAT(error_of("(causal"), HasSubstr("column 8: expected ')'"));
  EXPECT_THAT(error_of("sink"), HasSubstr("column 5: expected '(' after sink"));
  EXPECT_THAT(error_of("sink(x)"), HasSubstr("column 6: expected a number"));
  EXPECT_THAT(error_of("sink(1, 2)"), HasSubstr("column 7: expected ')'"));
  EXPECT_THAT(error_of("sink(99999999999999999999)"), HasSubstr("too large"));
  EXPECT_THAT(error_of("causal causal"), HasSubstr("column 8: unexpected 'c'"));
  EXPECT_THAT(error_of("causal # all"), HasSubstr("column 8: unexpected '#'"));
  EXPECT_THAT(error_of(std::string(5000, '(')), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of(std::string(100000, ' ')), HasSubstr("longer than"));
  EXPECT_THAT(error_of("causal & near(0, 3)"),
              HasSubstr("column 10: the block size of near must be"));
  EXPECT_THAT(error_of("near(3)"), HasSubstr("column 7: near needs 2 arguments"));
  EXPECT_THAT(error_of("same(3)"), HasSubstr("column 6: unexpected '3', expected a label"));
  EXPECT_THAT(error_of("same(blok(3))"),
              HasSubstr("column 6: unknown label 'blok', did you mean 'block'?"));
  EXPECT_THAT(error_of("k_in(doc)"), HasSubstr("column 9: expected ',' and a value"));
  EXPECT_THAT(error_of("table(doc, 10, 0)"), HasSubstr("a table must be square"));
  EXPECT_THAT(error_of("table(doc, 12, 01)"),
              HasSubstr("a row of a table must be of 0 and 1 (12)"));
  EXPECT_THAT(error_of("table(doc)"), HasSubstr("must have 1 to 64 rows (0)"));
  EXPECT_THAT(error_of("tiles(3)"), HasSubstr("expected the name of a tile map"));
  EXPECT_THAT(error_of("all | heads(0-3: causal; 2: all)"),
              HasSubstr("column 7: head 2 is given twice"));
  EXPECT_THAT(error_of("heads(3-1: all)"), HasSubstr("column 7: range 3-1 runs backwards"));
  EXPECT_THAT(error_of("heads(causal)"), HasSubstr("column 7: expected 'heads: mask'"));
  EXPECT_THAT(error_of("heads(all: causal)"), HasSubstr("column 7: expected head numbers or rest"));
  EXPECT_THAT(error_of("heads(rest: a; rest: b)"), HasSubstr("column 13: unknown word 'a'"));
  EXPECT_THAT(error_of("heads(0: causal"), HasSubstr("column 16: expected ')'"));
  EXPECT_THAT(error_of("block_difusion(3, 1)"), HasSubstr("did you mean 'block_diffusion'?"));
  EXPECT_THAT(error_of("all & block_diffusion(3)"),
              HasSubstr("column 7: in block_diffusion(...): block_diffusion(n, b) needs b"));
  EXPECT_THAT(error_of("frames(1, 2, 3, 4)"), HasSubstr("takes 3 arguments, not 4"));
  EXPECT_THAT(error_of("frames(1, 2,)"), HasSubstr("column 13: expected an argument"));
  EXPECT_THAT(error_of("frames(0, 2, 3)"),
              HasSubstr("column 1: in frames(...): the side of a grid must be"));
  EXPECT_THAT(error_of("frames(doc, 2, 3)"),
              HasSubstr("column 1: in frames(...): expected a number"));
  EXPECT_THROW(Mask::window(-1), InvalidArgument);
  EXPECT_THROW(Mask::k_in(Label::block(2), {}), InvalidArgument);
}

}  // namespace
}  // namespace perpend
