#include "perpend/mask/label.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/label_node.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

using testing::HasSubstr;

std::vector<std::int64_t> values_of(const Label& label, std::int64_t count) {
  std::vector<std::int64_t> values;
  for (std::int64_t p = 0; p < count; ++p) values.push_back(label.at(p));
  return values;
}

// The table of the manual, written a second time.
TEST(Label, ValuesAreTheirDefinitions) {
  using Values = std::vector<std::int64_t>;
  EXPECT_EQ(values_of(parse_label("block(3)"), 7), (Values{0, 0, 0, 1, 1, 1, 2}));
  EXPECT_EQ(values_of(parse_label("block(3, 2)"), 7), (Values{-1, -1, 0, 0, 0, 1, 1}));
  EXPECT_EQ(values_of(parse_label("segments(2*2, 0, 3)"), 7), (Values{0, 0, 1, 1, 3, 3, 3}));
  EXPECT_EQ(values_of(parse_label("segments_at(0, 2, 2, 5)"), 7), (Values{0, 0, 2, 2, 2, 3, 3}));
  EXPECT_EQ(values_of(parse_label("copy(4)"), 7), (Values{0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(values_of(parse_label("within(3, block(2))"), 7), (Values{0, 0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(values_of(parse_label("grid(4, 1, 3).frame"), 7), (Values{0, 0, 0, 1, 1, 1, 2}));
  const std::vector<std::int64_t> measured = {5, 5, -2, 9};
  EXPECT_EQ(values_of(Label::array(measured), 4), measured);
}

TEST(Label, WindowsOfAGrid) {
  for (std::int64_t shift = 0; shift < 5; ++shift) {
    const Label label = Label::grid_window(
        {.height = 7, .width = 10, .window_height = 2, .window_width = 4, .shift = shift});
    for (std::int64_t p = 0; p < 70; ++p) {
      for (std::int64_t r = 0; r < 70; ++r) {
        // Two cells share a window when no border lies between them; borders are shift + i * side.
        const auto borders = [&](std::int64_t x, std::int64_t side) {
          std::int64_t count = 0;
          for (std::int64_t border = shift % side; border <= x; border += side) ++count;
          return count;
        };
        const bool alike =
            borders(p / 10, 2) == borders(r / 10, 2) && borders(p % 10, 4) == borders(r % 10, 4);
        ASSERT_EQ(label.at(p) == label.at(r), alike) << label << " " << p << " " << r;
      }
    }
    EXPECT_EQ(label.at(0), 0);
  }
}

TEST(Label, PrintedTextIsParsedBack) {
  Random random(1);
  for (int i = num_trials(1000); i > 0; --i) {
    const Label label = MaskGenerator(random, 20, i % 2 == 0 ? 60 : 0, false).label();
    const Label back = parse_label(label.str());
    ASSERT_EQ(back, label) << label;
    ASSERT_EQ(back.hash(), label.hash());
    ASSERT_EQ(back.str(), label.str());
  }
  EXPECT_EQ(parse_label(" grid( 4,4 ) . window( 2 , 2 , 0 ) ").str(), "grid(4, 4).window(2, 2)");
  EXPECT_EQ(parse_label("segments(3, 3, 4*1)").str(), "segments(3*2, 4)");
  EXPECT_EQ(parse_label("block(3, 0)"), Label::block(3));
}

// run(), range(), leave(), positions_of() and starts say of many positions what at() says of each.
TEST(Label, QuestionsAgreeWithValues) {
  constexpr std::int64_t kLength = 40;
  Random random(2);
  for (int i = num_trials(400); i > 0; --i) {
    const Label label = without_names(MaskGenerator(random, 12, kLength).label());
    const LabelNode& node = label.node();
    const auto values = values_of(label, kLength);
    const auto value = [&](std::int64_t p) { return values[static_cast<std::size_t>(p)]; };
    for (std::int64_t begin = 0; begin < kLength; ++begin) {
      const Range run = node.run(begin);
      ASSERT_TRUE(run.contains(begin));
      for (std::int64_t p = 0; p < kLength; ++p) {
        const bool alike = value(p) == value(begin);
        ASSERT_TRUE(alike || !run.contains(p)) << label << p;
        ASSERT_TRUE(!alike || run.contains(p) || !node.ascends()) << label << p;
      }
      LabelRange range;
      const LabelRange allowed{value(begin) - static_cast<std::int64_t>(random.next_below(3)),
                               value(begin) + static_cast<std::int64_t>(random.next_below(3))};
      std::int64_t left = kLength;
      for (std::int64_t end = begin + 1; end <= kLength; ++end) {
        range = range.join({value(end - 1), value(end - 1)});
        ASSERT_EQ(node.range({begin, end}), range) << label << begin << " " << end;
        if (left == kLength && !allowed.contains(value(end - 1))) left = end - 1;
        ASSERT_EQ(node.leave(begin, end, allowed), std::min(left, end)) << label << begin;
      }
      ASSERT_TRUE(begin == 0 || !node.ascends() || value(begin - 1) <= value(begin)) << label;
    }
  }
}

TEST(Label, RunsAreAnArrayWithoutAnEnd) {
  const std::vector<std::int64_t> starts = {0, 3, 4, 9};
  const std::vector<std::int64_t> values = {7, 7, 2, 5};
  const std::vector<std::int64_t> written = {7, 7, 7, 7, 2, 2, 2, 2, 2, 5};
  const Label runs = Label::runs(starts, values);
  const Label array = Label::array(written);
  for (std::int64_t p = 0; p < 10; ++p) EXPECT_EQ(runs.at(p), array.at(p)) << p;
  EXPECT_EQ(runs.at(1'000'000), 5);
  EXPECT_NE(runs, array);
  EXPECT_EQ(runs.node().extent(), std::nullopt);
  EXPECT_EQ(array.node().extent(), 10);
  const std::vector<std::int64_t> late = {1, 3, 4, 9};
  const std::vector<std::int64_t> twice = {0, 3, 3, 9};
  EXPECT_THROW(Label::runs(late, values), InvalidArgument);
  EXPECT_THROW(Label::runs(twice, values), InvalidArgument);
  EXPECT_THROW(Label::runs(starts, std::span(values).first(3)), InvalidArgument);
}

std::string error_of(std::string_view text) {
  try {
    parse_label(text);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(Label, ATextHasNotMoreSegmentsThanALabel) {
  constexpr const char* kText = "same(segments(1*3000000)) | same(segments(1*2000000))";
  EXPECT_THAT([] { parse_mask(kText); },
              testing::ThrowsMessage<InvalidArgument>(
                  HasSubstr("column 53: the text has more than 4194304 segments")));
}

TEST(Label, ErrorsNameColumnAndExpectation) {
  EXPECT_THAT(error_of("blck(3)"),
              HasSubstr("column 1: unknown label 'blck', did you mean 'block'?"));
  EXPECT_THAT(error_of("zebra(3)"), HasSubstr("expected block(...), segments(...)"));
  EXPECT_THAT(error_of("block"), HasSubstr("column 6: expected '(' after block"));
  EXPECT_THAT(error_of("block(0)"), HasSubstr("column 1: the size of a block must be in [1, "));
  EXPECT_THAT(error_of("segments()"), HasSubstr("column 10: expected a number"));
  EXPECT_THAT(error_of("segments(3*)"), HasSubstr("column 12: expected a number"));
  EXPECT_THAT(error_of("segments(1*99999999999)"), HasSubstr("the count of a segment must be in"));
  EXPECT_THAT(error_of("segments_at(1, 2)"), HasSubstr("the first segment must begin at 0"));
  EXPECT_THAT(error_of("segments_at(0, 2, 1)"), HasSubstr("starts of segments must ascend"));
  EXPECT_THAT(error_of("within(4)"), HasSubstr("column 9: expected ','"));
  EXPECT_THAT(error_of("grid(2, 3).frame"),
              HasSubstr("column 12: frame needs a grid(frames, height"));
  EXPECT_THAT(error_of("grid(2, 3, 4).window(1, 1)"),
              HasSubstr("window needs a grid(height, width)"));
  EXPECT_THAT(error_of("grid(2, 3).pane"), HasSubstr("column 12: expected window(...) or frame"));
  EXPECT_THAT(error_of("doc doc"), HasSubstr("column 5: unexpected 'd', expected the end"));
  EXPECT_THAT(error_of(""), HasSubstr("column 1: unexpected end, expected a label"));
  EXPECT_THROW(Label::named("block"), InvalidArgument);
  EXPECT_THROW(Label::named("2x"), InvalidArgument);
  EXPECT_THROW(Label::named("doc").at(0), InvalidArgument);
  EXPECT_THROW(Label::array({}), InvalidArgument);
}

TEST(Bindings, NamesStandForLabels) {
  const Bindings bindings = parse_bindings(" doc = segments(3*2) ; part=within(3, doc);");
  EXPECT_EQ(*bindings.label("doc"), parse_label("segments(3*2)"));
  EXPECT_EQ(bindings.label("part")->at(4), 0);
  EXPECT_EQ(bindings.label("rest"), nullptr);
  const Label bound = bindings.bind(Label::named("doc"));
  EXPECT_EQ(bound.str(), "doc");
  EXPECT_EQ(bound.at(4), 1);
  EXPECT_NE(bound, Label::named("doc"));
  EXPECT_EQ(without_names(bound), parse_label("segments(3*2)"));
}

TEST(Bindings, ErrorsNameTheColumn) {
  const auto bindings_error = [](std::string_view text) -> std::string {
    try {
      parse_bindings(text);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(bindings_error("doc segments(3)"),
              HasSubstr("column 5: expected '=' after the name"));
  EXPECT_THAT(bindings_error("doc = segmnts(3)"), HasSubstr("bindings: column 7: unknown label"));
  EXPECT_THAT(bindings_error("a = copy(3) b = a"),
              HasSubstr("column 13: unexpected 'b', expected ';'"));
  EXPECT_THAT(bindings_error("= copy(3)"), HasSubstr("column 1: unexpected '=', expected a name"));
  EXPECT_THAT(bindings_error("a = b; b = copy(3)"), HasSubstr("column 1: 'a' would stand for b"));
  EXPECT_THAT(bindings_error("copy = copy(3)"),
              HasSubstr("column 1: 'copy' is a label of its own"));
}

}  // namespace
}  // namespace perpend
