#include "perpend/schedule/word_dictionary.h"

#include <map>

#include <gtest/gtest.h>

#include "perpend/core/random.h"

namespace perpend {
namespace {

TEST(WordDictionary, NumbersDistinctSequencesInOrder) {
  Random random(6);
  WordDictionary dictionary;
  std::map<std::vector<std::uint64_t>, std::int32_t> known;
  for (int i = 0; i < 5000; ++i) {
    std::vector<std::uint64_t> words(random.next_below(4));
    for (std::uint64_t& word : words) word = random.next_below(10);
    const auto [expected, is_new] =
        known.try_emplace(words, static_cast<std::int32_t>(known.size()));
    const WordDictionary::Place place = dictionary.add(words);
    ASSERT_EQ(place.index, expected->second);
    ASSERT_EQ(place.is_new, is_new);
    ASSERT_TRUE(std::ranges::equal(dictionary[place.index], words));
  }
  EXPECT_EQ(dictionary.count(), static_cast<std::int32_t>(known.size()));
}

// Its table becomes smaller and larger again.
TEST(WordDictionary, ForgetsAllWhenCleared) {
  WordDictionary dictionary;
  for (const std::uint64_t count : {1000U, 3U, 200U, 0U, 5000U}) {
    for (const bool is_new : {true, false}) {
      for (std::uint64_t i = 0; i < count; ++i) {
        const WordDictionary::Place place = dictionary.add(std::vector{i, i + 1});
        ASSERT_EQ(place.index, static_cast<std::int32_t>(i));
        ASSERT_EQ(place.is_new, is_new);
      }
    }
    dictionary.clear();
    ASSERT_EQ(dictionary.count(), 0);
  }
}

}  // namespace
}  // namespace perpend
