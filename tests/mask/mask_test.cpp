#include "perpend/mask/mask.h"

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
  EXPECT_THROW(Mask::window(-1), InvalidArgument);
}

}  // namespace
}  // namespace perpend
