#include "perpend/mask/compositions.h"

#include <functional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "perpend/core/concat.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/bound_mask.h"

namespace perpend {
namespace {

using Formula = std::function<bool(std::int64_t q, std::int64_t k)>;

// The mask against a paper's formula, pair by pair, by the definition and as planning sees it.
void expect_formula(const std::string& text, std::int64_t length, const Formula& formula,
                    const Bindings& bindings = {}, HeadIndex head = {}) {
  const Mask mask = parse_mask(text).bind(bindings);
  const BoundMask bound(mask, head);
  std::int64_t wrong = 0;
  for (std::int64_t q = 0; q < length; ++q) {
    for (std::int64_t k = 0; k < length; ++k) {
      const bool expected = formula(q, k);
      wrong += mask.visible(q, k, head) == expected && bound.visible(q, k) == expected ? 0 : 1;
    }
  }
  EXPECT_EQ(wrong, 0) << text << " of length " << length << " is " << mask;
}

std::int64_t count_live(const std::string& text, std::int64_t length) {
  const BoundMask mask(parse_mask(text));
  std::int64_t count = 0;
  for (std::int64_t q = 0; q < length; ++q) {
    for (std::int64_t k = 0; k < length; ++k) count += mask.visible(q, k) ? 1 : 0;
  }
  return count;
}

// Fast-dLLM v2, section 2.3: cl(i) = [i >= L], b(i) = floor((i mod L) / D).
TEST(Compositions, BlockDiffusion) {
  for (const auto& [n, b] :
       {std::pair<std::int64_t, std::int64_t>{12, 4}, {10, 3}, {7, 1}, {5, 8}}) {
    const auto cl = [n = n](std::int64_t i) { return i >= n; };
    const auto block = [n = n, b = b](std::int64_t i) { return (i % n) / b; };
    expect_formula(concat("block_diffusion(", n, ", ", b, ")"), 2 * n, [&](auto q, auto k) {
      return (!cl(q) && !cl(k) && block(q) == block(k)) ||
             (!cl(q) && cl(k) && block(k) < block(q)) || (cl(q) && cl(k) && block(k) <= block(q));
    });
    // The paper's other way to write it.
    expect_formula(concat("block_diffusion(", n, ", ", b, ")"), 2 * n, [&](auto q, auto k) {
      return (cl(q) == cl(k) && block(q) == block(k)) || (!cl(q) && cl(k) && block(k) < block(q)) ||
             (cl(q) && cl(k) && block(k) <= block(q));
    });
  }
}

// NBDiff, section 2.1; allowed pairs by section 7.
TEST(Compositions, ContextCausal) {
  for (const auto& [n, b] : {std::pair<std::int64_t, std::int64_t>{12, 4}, {10, 3}, {6, 6}}) {
    expect_formula(concat("context_causal(", n, ", ", b, ")"), 2 * n,
                   [n = n, b = b](auto q, auto k) {
                     const auto p = [&](std::int64_t i) { return i % n; };
                     if (q < n && k < n) return p(q) / b == p(k) / b;
                     if (q < n) return p(k) / b < p(q) / b;
                     return k >= n && p(k) <= p(q);
                   });
  }
  const std::int64_t n = 24;
  const std::int64_t b = 4;
  const std::int64_t blocks = n / b;
  EXPECT_EQ(count_live(concat("context_causal(", n, ", ", b, ")"), 2 * n),
            n * b + b * b * blocks * (blocks - 1) / 2 + n * (n + 1) / 2);
}

// NBDiff, section 2.4: prompt causal, each block of the answer wholly visible to itself.
TEST(Compositions, BlockDecode) {
  for (const std::int64_t start : {0, 3, 8}) {
    expect_formula(concat("block_decode(4, ", start, ")"), 20, [&](auto q, auto k) {
      if (k <= q) return true;
      return q >= start && (q - start) / 4 == (k - start) / 4;
    });
  }
}

TEST(Compositions, BlockCausalAndChunks) {
  expect_formula("block_causal(4)", 18, [](auto q, auto k) { return k / 4 <= q / 4; });
  expect_formula("block_causal()", 70, [](auto q, auto k) { return k / 32 <= q / 32; });
  // SANA-Video: the first block absorbs the remainder, as 21 frames are cut into 11 + 10.
  for (const auto& [first, size] :
       {std::pair<std::int64_t, std::int64_t>{11, 10}, {3, 5}, {5, 5}}) {
    expect_formula(concat("chunks(", first, ", ", size, ")"), 31,
                   [first = first, size = size](auto q, auto k) {
                     const auto chunk = [&](std::int64_t i) {
                       return i < first ? 0 : 1 + (i - first) / size;
                     };
                     return chunk(k) <= chunk(q);
                   });
  }
}

// LongGen, section 2.3.
TEST(Compositions, LongGen) {
  const std::int64_t size = 4;
  for (const std::int64_t sinks : {0, 1, 2}) {
    for (const std::int64_t window : {1, 3}) {
      expect_formula(concat("longgen_sink(4, ", sinks, ", ", window, ")"), 50, [&](auto q, auto k) {
        const std::int64_t qb = q / size;
        const std::int64_t kb = k / size;
        return k <= q && (qb - kb < window || kb < sinks);
      });
      for (const int g : {0, 1, 3}) {
        const std::int64_t stride = 5;
        const std::int64_t step = 2;
        expect_formula(concat("longgen_strided(4, ", window, ", 5, 2, ", sinks, ")"), 70,
                       [&](auto q, auto k) {
                         const std::int64_t qb = q / size;
                         const std::int64_t kb = k / size;
                         return k <= q &&
                                (qb - kb < window || (kb + g * step) % stride == 0 || kb < sinks);
                       },
                       {}, {4 * g, g});
      }
    }
  }
  EXPECT_EQ(parse_mask("longgen_sink()"), parse_mask("causal & (near(64, 31) | sink(64))"));
  EXPECT_EQ(parse_mask("longgen_strided()"),
            parse_mask("causal & (near(64, 16) | every(64, 128))"));
}

// LongGen, section 7a: live pairs of a sparse layer at 4K, AS(1, 31) and BS(16, 128).
TEST(Compositions, LongGenPairCounts) {
  const auto pairs = [](std::int64_t tiles) {
    const std::int64_t n = 4096 / 64;
    return (tiles - n) * 64 * 64 + n * 64 * 65 / 2;
  };
  EXPECT_EQ(count_live("longgen_sink()", 4096), pairs(1552));
  EXPECT_EQ(count_live("longgen_strided()", 4096), pairs(952));
}

// BlockRank, section 2.2; blocks of unequal lengths, one of them empty.
TEST(Compositions, BlockRank) {
  const std::vector<std::int64_t> lengths = {3, 5, 0, 4, 1, 6};
  std::vector<std::int64_t> block;
  std::vector<std::int64_t> place;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    for (std::int64_t t = 0; t < lengths[b]; ++t) {
      block.push_back(static_cast<std::int64_t>(b));
      place.push_back(t);
    }
  }
  const auto last = static_cast<std::int64_t>(lengths.size()) - 1;
  expect_formula(
      "blockrank(doc, 5)", static_cast<std::int64_t>(block.size()),
      [&](auto q, auto k) {
        const auto i = static_cast<std::size_t>(q);
        const auto j = static_cast<std::size_t>(k);
        return (block[i] == block[j] && place[j] <= place[i]) || (block[j] == 0 && block[i] > 0) ||
               (block[i] == last && block[j] < last);
      },
      parse_bindings("doc = segments(3, 5, 0, 4, 1, 6)"));
}

// Next-Frame Diffusion, section 2.3.
TEST(Compositions, Frames) {
  expect_formula("frames(4, 2, 3)", 24, [](auto q, auto k) { return k / 6 <= q / 6; });
  for (const std::int64_t context : {1, 2, 5}) {
    expect_formula(concat("rolling_frames(6, ", context, ")"), 40,
                   [&](auto q, auto k) { return q / 6 - context < k / 6 && k / 6 <= q / 6; });
  }
}

// StyleSwin, section 2.4: windows of the rolled grid and the regions that its mask keeps apart.
TEST(Compositions, Swin) {
  const std::int64_t r = 12;
  const std::int64_t w = 4;
  expect_formula("swin(12, 12, 4, 6)", r * r,
                 [&](auto q, auto k) { return q / r / w == k / r / w && q % r / w == k % r / w; },
                 {}, {2, 2});
  expect_formula(
      "swin(12, 12, 4, 6)", r * r,
      [&](auto q, auto k) {
        const auto rolled = [&](std::int64_t x) { return (x - w / 2 + r) % r; };
        const auto region = [&](std::int64_t p) { return p < r - w ? 0 : p < r - w / 2 ? 1 : 2; };
        const auto alike = [&](std::int64_t x, std::int64_t y) {
          return rolled(x) / w == rolled(y) / w && region(rolled(x)) == region(rolled(y));
        };
        return alike(q / r, k / r) && alike(q % r, k % r);
      },
      {}, {3, 3});
  EXPECT_EQ(parse_mask("swin(64, 64, 8, 8)"),
            parse_mask("heads(0-3: same(grid(64, 64).window(8, 8)); rest: "
                       "same(grid(64, 64).window(8, 8, 4)))"));
}

// DreamVLA, section 2.2: groups A, D, X of a step.
struct Step {
  std::int64_t a, d, x;
  std::int64_t size() const { return a + d + x; }
  char group(std::int64_t i) const {
    const std::int64_t idx = i % size();
    return idx < a ? 'A' : idx < a + d ? 'D' : 'X';
  }
  std::int64_t step(std::int64_t i) const { return i / size(); }
};

TEST(Compositions, DreamVla) {
  for (const Step s : {Step{4, 6, 2}, Step{3, 1, 1}, Step{2, 2, 5}}) {
    expect_formula(concat("dreamvla(", s.a, ", ", s.d, ", ", s.x, ")"), 5 * s.size(),
                   [&](auto q, auto k) {
                     return (s.group(k) == 'A' && s.step(k) <= s.step(q)) ||
                            (s.group(q) == 'X' && s.group(k) == 'D' && s.step(k) == s.step(q));
                   });
  }
  EXPECT_EQ(count_live("dreamvla()", 930), 185760);
}

TEST(Compositions, DreamVlaPretraining) {
  for (const Step s : {Step{4, 6, 2}, Step{3, 1, 1}, Step{5, 4, 1}}) {
    for (const std::int64_t goal : {1, 2, 4}) {
      expect_formula(concat("dreamvla_pretrain(", s.a, ", ", s.d, ", ", s.x, ", ", goal, ")"),
                     7 * s.size(), [&](auto q, auto k) {
                       const bool earlier = s.group(k) == 'A' && s.step(k) <= s.step(q);
                       const std::int64_t idx = k % s.size();
                       switch (s.group(q)) {
                         case 'A':
                           return earlier;
                         case 'D':
                           return earlier || (idx == 1 && s.step(k) == s.step(q) + goal);
                         default:
                           return s.step(k) == s.step(q) &&
                                  ((s.group(k) == 'A' && idx >= 1) || s.group(k) == 'D');
                       }
                     });
    }
  }
}

TEST(Compositions, ParoIsTheMeasuredMap) {
  TileMap::Tiles tiles{.tile_q = 4, .tile_k = 4, .num_columns = 3};
  tiles.row_begin = {0, 1, 3, 4};
  tiles.columns = {2, 0, 1, 2};
  tiles.bitmaps = {-1, -1, -1, -1};
  expect_formula(
      "paro(map)", 12, [](auto q, auto k) { return q / 4 == 1 ? k / 4 <= 1 : k / 4 == 2; },
      Bindings().set("map", TileMap(tiles)));
}

// LaDiR, section 2.4: question of 5, then blocks of BOT, time, 4 latents and EOT, then an answer.
struct Thoughts {
  std::int64_t question = 5;
  std::int64_t latents = 4;
  std::int64_t blocks = 3;
  std::int64_t answer = 4;

  std::int64_t clean() const { return question + blocks * (latents + 3) + answer; }
  std::int64_t length() const { return clean() + blocks * (latents + 3); }
  // Block (from 1) of a position; 0 in the question, blocks + 1 in the answer.
  std::int64_t part(std::int64_t i) const {
    if (i >= clean()) return 1 + (i - clean()) / (latents + 3);
    if (i < question) return 0;
    return std::min(blocks, (i - question) / (latents + 3)) + 1;
  }
  // Block of a latent, 0 elsewhere.
  std::int64_t latent(std::int64_t i) const {
    const std::int64_t begin = i >= clean() ? clean() : question;
    if (i < question || (i < clean() && part(i) > blocks)) return 0;
    const std::int64_t idx = (i - begin) % (latents + 3);
    return idx >= 2 && idx < 2 + latents ? part(i) : 0;
  }
};

TEST(Compositions, LaDir) {
  const Thoughts t;
  std::vector<std::int64_t> thought;
  std::vector<std::int64_t> part;
  for (std::int64_t i = 0; i < t.length(); ++i) {
    thought.push_back(t.latent(i));
    part.push_back(t.part(i));
  }
  const Bindings bindings =
      Bindings().set("thought", Label::array(thought)).set("part", Label::array(part));
  const auto rule = [&](std::int64_t q, std::int64_t k) {
    return k <= q || (t.latent(q) == t.latent(k) && t.latent(q) != 0);
  };
  expect_formula("ladir(thought)", t.clean(), rule, bindings);
  expect_formula(
      concat("ladir_train(", t.clean(), ", part, thought)"), t.length(),
      [&](auto q, auto k) {
        const std::int64_t clean = t.clean();
        if (q < clean) return k < clean && rule(q, k);
        if (k < clean) return t.part(k) < t.part(q);
        return t.part(k) == t.part(q) && rule(q, k);
      },
      bindings);
}

// What a list of them shows must be true of all.
TEST(Compositions, HaveNamesTextsAndPapers) {
  std::set<std::string_view> names;
  for (const Composition& composition : compositions()) {
    EXPECT_TRUE(names.insert(composition.name).second) << composition.name;
    EXPECT_EQ(find_composition(composition.name), &composition);
    EXPECT_FALSE(composition.paper.empty() || composition.summary.empty()) << composition.name;
  }
  EXPECT_EQ(find_composition("causal"), nullptr);
}

}  // namespace
}  // namespace perpend
