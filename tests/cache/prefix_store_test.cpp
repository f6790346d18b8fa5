#include "perpend/cache/prefix_store.h"

#include <gtest/gtest.h>

#include "perpend/cache/kv_sequence.h"

namespace perpend {
namespace {

class PrefixStoreTest : public testing::Test {
 protected:
  PrefixStoreTest()
      : kv_({.num_layers = 2,
             .num_kv_heads = 1,
             .head_dim = 4,
             .page_size = 4,
             .dtype = DType::kF32,
             .max_tokens = 400}),
        prefixes_(kv_, 6 * kv_.page_bytes()) {}

  // An entry of two pages that nobody but the store will hold.
  void add(std::uint64_t key, std::vector<float> rows = {}) {
    KvSequence sequence(kv_);
    ASSERT_TRUE(sequence.append(4));
    prefixes_.add({key, 0},
                  {{sequence.page_table(0)[0], sequence.page_table(1)[0]}, std::move(rows)});
  }
  bool has(std::uint64_t key) { return prefixes_.find({key, 0}) != nullptr; }
  std::int32_t num_used() const { return kv_.pool().num_used(); }

  KvStore kv_;
  PrefixStore prefixes_;  // room for three entries
};

TEST_F(PrefixStoreTest, WhatWasUsedLongestAgoGoesFirst) {
  for (std::uint64_t key = 1; key <= 3; ++key) {
    prefixes_.begin_request();
    add(key);
  }
  EXPECT_EQ(prefixes_.num_bytes(), 6 * kv_.page_bytes());
  prefixes_.begin_request();
  EXPECT_TRUE(has(1));
  prefixes_.begin_request();
  add(4);
  EXPECT_EQ(num_used(), 6);
  EXPECT_FALSE(has(2));
  EXPECT_TRUE(has(1) && has(3) && has(4));
}

TEST_F(PrefixStoreTest, ARequestNeverPushesOutWhatItUses) {
  prefixes_.begin_request();
  for (std::uint64_t key = 1; key <= 5; ++key) add(key);
  EXPECT_TRUE(has(1) && has(2) && has(3));
  EXPECT_FALSE(has(4) || has(5));
  EXPECT_EQ(num_used(), 6);
  prefixes_.begin_request();
  EXPECT_TRUE(has(2));
  add(6);
  add(7);
  add(8);
  EXPECT_TRUE(has(2) && has(6) && has(7));
  EXPECT_FALSE(has(8));
}

TEST_F(PrefixStoreTest, NothingIsHeldTwice) {
  prefixes_.begin_request();
  KvSequence sequence(kv_);
  ASSERT_TRUE(sequence.append(4));
  const std::int32_t page = sequence.page_table(0)[0];
  const std::int32_t other = sequence.page_table(1)[0];
  prefixes_.add({1, 0}, {{page}, {1.0F, 2.0F}});
  EXPECT_EQ(prefixes_.num_bytes(), kv_.page_bytes() + 8);
  prefixes_.add({1, 0}, {{other}, {1.0F, 2.0F}});
  EXPECT_EQ(prefixes_.num_bytes(), kv_.page_bytes() + 8);
  EXPECT_EQ(kv_.pool().num_references(page), 2);
  EXPECT_EQ(kv_.pool().num_references(other), 1);
  EXPECT_EQ(prefixes_.find({1, 0})->pages, (std::vector<std::int32_t>{page}));
  EXPECT_EQ(prefixes_.find({1, 0})->rows, (std::vector<float>{1, 2}));
  EXPECT_EQ(prefixes_.find({1, 1}), nullptr);
  prefixes_.clear();
  EXPECT_EQ(prefixes_.num_bytes(), 0);
  EXPECT_EQ(kv_.pool().num_references(page), 1);
}

TEST_F(PrefixStoreTest, RowsCountAsBytes) {
  prefixes_.begin_request();
  add(1, std::vector<float>(static_cast<std::size_t>(kv_.page_bytes())));
  EXPECT_EQ(prefixes_.num_bytes(), 6 * kv_.page_bytes());
  add(2);
  EXPECT_FALSE(has(2));
  EXPECT_EQ(num_used(), 2);
  prefixes_.begin_request();
  add(3, std::vector<float>(static_cast<std::size_t>(2 * kv_.page_bytes())));
  EXPECT_FALSE(has(3));
}

}  // namespace
}  // namespace perpend
