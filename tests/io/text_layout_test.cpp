#include "perpend/io/text_layout.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/random.h"
#include "tests/campaign.h"

namespace perpend {
namespace {

using testing::ElementsAre;

TEST(TextLayout, BreaksLinesAtBlanks) {
  EXPECT_THAT(wrapped_lines("the quick brown fox", 10), ElementsAre("the quick", "brown fox"));
  EXPECT_THAT(wrapped_lines("the quick brown fox", 9), ElementsAre("the quick", "brown fox"));
  EXPECT_THAT(wrapped_lines("a\n\nb", 9), ElementsAre("a", "", "b"));
  EXPECT_THAT(wrapped_lines("unbreakable", 4), ElementsAre("unbr", "eaka", "ble"));
  EXPECT_THAT(wrapped_lines("an unbreakable", 6), ElementsAre("an", "unbrea", "kable"));
  EXPECT_THAT(wrapped_lines("", 4), ElementsAre());
}

TEST(TextLayout, CountsCells) {
  // Two wide ones, then a letter with a mark.
  EXPECT_THAT(wrapped_lines("\u65e5\u672c", 3), ElementsAre("\u65e5", "\u672c"));
  const std::string marked = "xe\u0301y";
  const auto placed = lay_out(marked, 8);
  ASSERT_EQ(placed.size(), 3U);
  EXPECT_EQ(placed[1].text, "e\u0301");
  EXPECT_EQ(placed[2].column, 2);
  EXPECT_THAT(wrapped_lines("a\xff", 4), ElementsAre("a\uFFFD"));
}

TEST(TextLayout, PlacesEachCharacterOnceInOrder) {
  Random random(5);
  const std::vector<std::string> pieces = {"a", "b", " ", " ", "\n", "\u65e5", "\u0301", "long"};
  for (int trial = 0; trial < num_trials(300); ++trial) {
    std::string text;
    for (std::uint64_t i = random.next_below(40); i > 0; --i) {
      text += pieces[random.next_below(pieces.size())];
    }
    const int columns = 2 + static_cast<int>(random.next_below(12));
    std::string seen;
    int line = 0;
    int end = 0;
    for (const PlacedCharacter& character : lay_out(text, columns)) {
      EXPECT_LE(character.column + character.width, columns) << text;
      EXPECT_TRUE(character.line > line || character.column == end) << text;
      line = character.line;
      end = character.column + character.width;
      seen += character.text;
    }
    // Only blanks, ends of lines and marks on nothing have no place.
    const auto plain = [](std::string all) {
      std::erase_if(all, [](char letter) { return letter == ' ' || letter == '\n'; });
      for (std::size_t at; (at = all.find("\u0301")) != std::string::npos;) all.erase(at, 2);
      return all;
    };
    EXPECT_EQ(plain(seen), plain(text)) << columns;
  }
}

TEST(TextLayout, StandsTwoTextsSideBySide) {
  EXPECT_EQ(side_by_side("one", "a b c", "two", "\u65e5", 9),
            "one | two\n"
            "--- | ---\n"
            "a b | \u65e5\n"
            "c   |\n");
}

}  // namespace
}  // namespace perpend
