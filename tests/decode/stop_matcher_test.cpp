#include "perpend/decode/stop_matcher.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace perpend {
namespace {

// What is left of `text` before the stop string that ends first, read letter by letter.
std::string cut(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    for (std::size_t begin = 0; begin < end; ++begin) {
      if (std::find(stops.begin(), stops.end(), text.substr(begin, end - begin)) != stops.end()) {
        return text.substr(0, begin);
      }
    }
  }
  return text;
}

// `text` in pieces: one ends behind letter i where bit i of `cuts` is set.
std::vector<std::string> split(const std::string& text, std::uint32_t cuts) {
  std::vector<std::string> pieces(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    pieces.back() += text[i];
    if (cuts >> i & 1) pieces.emplace_back();
  }
  return pieces;
}

bool begins_a_stop(const std::string& text, const std::vector<std::string>& stops) {
  return text.empty() || std::any_of(stops.begin(), stops.end(), [&](const std::string& stop) {
           return text.size() < stop.size() && stop.starts_with(text);
         });
}

// Pushes the pieces and checks after each that all is out that can be, and nothing else.
void check_stream(const std::vector<std::string>& pieces, const std::vector<std::string>& stops,
                  const std::string& expected) {
  StopMatcher matcher(stops);
  std::string given;
  std::string out;
  for (const std::string& piece : pieces) {
    given += piece;
    out += matcher.push(piece);
    if (matcher.matched()) {
      ASSERT_EQ(out, expected);
    } else {
      ASSERT_TRUE(expected.starts_with(out)) << given << ": " << out;
      ASSERT_TRUE(begins_a_stop(given.substr(out.size()), stops)) << given << ": " << out;
    }
  }
  ASSERT_EQ(matcher.matched(), expected.size() < given.size());
  out += matcher.finish();
  ASSERT_EQ(out, expected);
}

std::vector<std::string> all_texts(std::size_t max_size) {
  std::vector<std::string> texts;
  for (std::size_t size = 1; size <= max_size; ++size) {
    for (std::uint32_t bits = 0; bits < 1U << size; ++bits) {
      std::string& text = texts.emplace_back();
      for (std::size_t i = 0; i < size; ++i) text += (bits >> i & 1) ? 'b' : 'a';
    }
  }
  return texts;
}

TEST(StopMatcher, EverySplitOfEveryTextIsCutAlike) {
  const std::vector<std::string> stop_texts = all_texts(3);
  const std::vector<std::string> texts = all_texts(5);
  for (std::size_t i = 0; i < stop_texts.size(); ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const std::vector<std::string> stops = {stop_texts[i], stop_texts[j]};
      for (const std::string& text : texts) {
        const std::string expected = cut(text, stops);
        for (std::uint32_t cuts = 0; cuts < 1U << (text.size() - 1); ++cuts) {
          check_stream(split(text, cuts), stops, expected);
          if (HasFatalFailure()) {
            FAIL() << "text " << text << ", cuts " << cuts << ", stops " << stops[0] << " "
                   << stops[1];
          }
        }
      }
    }
  }
}

TEST(StopMatcher, OfStopsInsideEachOtherTheFirstToEndCounts) {
  for (const std::vector<std::string>& stops :
       {std::vector<std::string>{"abcd", "bc"}, {"bc", "abcd"}}) {
    StopMatcher whole(stops);
    EXPECT_EQ(whole.push("xabcdy"), "xa");
    StopMatcher letters(stops);
    EXPECT_EQ(letters.push("x"), "x");
    EXPECT_EQ(letters.push("ab"), "");
    EXPECT_EQ(letters.push("c"), "a");
    EXPECT_TRUE(letters.matched());
  }
  StopMatcher longer({"b", "ab"});
  EXPECT_EQ(longer.push("xab"), "x");
}

TEST(StopMatcher, CharactersStayWhole) {
  // The stop begins with the byte that all three characters of the text begin with.
  StopMatcher matcher({"\u00e9t\u00e9"});
  EXPECT_EQ(matcher.push("\u00e8"), "\u00e8");
  EXPECT_EQ(matcher.push("\u00e9"), "");
  EXPECT_EQ(matcher.push("\u00e0"), "\u00e9\u00e0");
  EXPECT_EQ(matcher.push("\u00e9t"), "");
  EXPECT_EQ(matcher.push("\u00e8"), "\u00e9t\u00e8");
  EXPECT_EQ(matcher.push("\u00e9t"), "");
  EXPECT_EQ(matcher.push("\u00e9"), "");
  EXPECT_TRUE(matcher.matched());
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.push("all of it"), "all of it");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, NothingComesBehindAMatch) {
  StopMatcher matcher({"end"});
  EXPECT_EQ(matcher.push("the end of it"), "the ");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

}  // namespace
}  // namespace perpend
