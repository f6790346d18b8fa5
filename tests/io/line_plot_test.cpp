#include "perpend/io/line_plot.h"

#include <algorithm>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/io/plot_font.h"

namespace perpend {
namespace {

using testing::HasSubstr;
using testing::Not;

// Columns in which a picture has pixels of that colour, and their mean rows.
std::vector<std::pair<int, double>> columns_of(const Image& image, Image::Color color) {
  std::vector<std::pair<int, double>> columns;
  for (int x = 0; x < image.width; ++x) {
    double sum = 0;
    int count = 0;
    for (int y = 100; y < image.height; ++y) {  // below the names of the series
      if (image.at(x, y) != color) continue;
      sum += y;
      ++count;
    }
    if (count > 0) columns.emplace_back(x, sum / count);
  }
  return columns;
}

constexpr Image::Color kFirstColor = {0, 114, 178};

TEST(LinePlot, ALineStandsWhereItsValuesAre) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  LinePlot plot{"title", "step", "loss", {{"falls", {0, 10, 20, 30}, {3, 2, 1, 0}}}};
  const auto whole = columns_of(plot.image(), kFirstColor);
  ASSERT_GT(whole.size(), 500U);
  const auto higher = [](const auto& a, const auto& b) { return a.second < b.second; };
  EXPECT_TRUE(std::is_sorted(whole.begin(), whole.end(), higher));
  // Half way in x is half way in y.
  const auto& middle = whole[whole.size() / 2];
  EXPECT_NEAR(middle.second, (whole.front().second + whole.back().second) / 2, 3);
  plot.series[0].y[1] = nan;
  EXPECT_LT(columns_of(plot.image(), kFirstColor).size(), whole.size() / 2);
}

TEST(LinePlot, WritesWordsAndRoundNumbers) {
  const LinePlot plot{"a < b & c", "step", "loss", {{"one", {0, 100}, {0.11, 0.58}}}};
  const std::string svg = plot.svg();
  EXPECT_THAT(svg, HasSubstr(">a &lt; b &amp; c</text>"));
  for (const char* label : {">0.1<", ">0.3<", ">0.6<", ">0<", ">60<", ">one<"}) {
    EXPECT_THAT(svg, HasSubstr(label));
  }
  const LinePlot around_zero{"", "", "", {{"one", {0, 1}, {-0.3, 0.3}}}};
  EXPECT_THAT(around_zero.svg(), Not(HasSubstr("e-1")));  // a zero that is none
}

TEST(LinePlot, NothingAndOneValueAreDrawnToo) {
  EXPECT_THAT(LinePlot{}.svg(), HasSubstr("</svg>"));
  const LinePlot plot{"", "", "", {{"one", {5}, {7}}}};
  EXPECT_FALSE(columns_of(plot.image(), kFirstColor).empty());
  const LinePlot uneven{"", "", "", {{"one", {5, 6}, {7}}}};
  EXPECT_THROW(uneven.svg(), InvalidArgument);
}

TEST(PlotFont, EveryLetterHasDotsOfItsOwn) {
  const std::string letters = "0123456789abcdefghijklmnopqrstuvwxyz.,-+_=/%:()";
  std::vector<std::string_view> seen;
  for (const char letter : letters) {
    const std::string_view dots = glyph_of(letter);
    ASSERT_EQ(dots.size(), static_cast<std::size_t>(kGlyphWidth * kGlyphHeight));
    EXPECT_EQ(std::count(seen.begin(), seen.end(), dots), 0) << letter;
    seen.push_back(dots);
  }
  EXPECT_EQ(glyph_of('A'), glyph_of('a'));
  EXPECT_EQ(glyph_of('\n'), glyph_of('~'));
}

}  // namespace
}  // namespace perpend
