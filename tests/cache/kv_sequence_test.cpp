#include "perpend/cache/kv_sequence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

#include <gtest/gtest.h>

#include "perpend/cache/kv_batch.h"
#include "perpend/cache/kv_clear.h"
#include "perpend/core/error.h"

namespace perpend {
namespace {

KvStoreConfig small_store(std::int64_t max_tokens = 64) {
  return {.num_layers = 2,
          .num_kv_heads = 3,
          .head_dim = 8,
          .page_size = 4,
          .dtype = DType::kF16,
          .max_tokens = max_tokens};
}

TEST(KvSequence, EveryTokenHasASlotOfItsOwn) {
  KvStore store(small_store());
  KvSequence a(store);
  KvSequence b(store);
  ASSERT_TRUE(a.append(5));
  ASSERT_TRUE(b.append(7));
  ASSERT_TRUE(a.append(6));
  std::set<std::int64_t> slots;
  for (int layer = 0; layer < 2; ++layer) {
    for (std::int64_t i = 0; i < a.length(); ++i) slots.insert(a.slot(layer, i));
    for (std::int64_t i = 0; i < b.length(); ++i) slots.insert(b.slot(layer, i));
  }
  EXPECT_EQ(slots.size(), 2U * (11 + 7));
  EXPECT_EQ(a.held_bytes() + b.held_bytes(), store.used_bytes());
  EXPECT_EQ(store.page_bytes(), 2 * 4 * 3 * 8 * 2);
  EXPECT_EQ(a.held_bytes(), 2 * 3 * store.page_bytes());
}

TEST(KvSequence, TruncationAndReleaseGivePagesBack) {
  KvStore store(small_store());
  KvSequence sequence(store);
  ASSERT_TRUE(sequence.append(17));
  EXPECT_EQ(store.pool().num_used(), 10);
  sequence.release_page(1, 2);
  EXPECT_EQ(sequence.page_table(1)[2], KvSequence::kNoPage);
  EXPECT_EQ(store.pool().num_used(), 9);
  sequence.release_page(1, 2);
  EXPECT_EQ(store.pool().num_used(), 9);
  EXPECT_EQ(sequence.exact_bytes() - sequence.held_bytes(), store.page_bytes());
  EXPECT_THROW(sequence.slot(1, 8), std::logic_error);
  sequence.truncate(8);
  EXPECT_EQ(sequence.length(), 8);
  EXPECT_EQ(store.pool().num_used(), 4);
  EXPECT_EQ(store.pool().peak_used(), 10);
  sequence.truncate(0);
  EXPECT_EQ(store.used_bytes(), 0);
}

TEST(KvSequence, AFullStoreChangesNothing) {
  KvStore store(small_store(8));
  KvSequence sequence(store);
  ASSERT_TRUE(sequence.append(6));
  const auto used = store.pool().num_used();
  EXPECT_FALSE(sequence.append(100));
  EXPECT_EQ(sequence.length(), 6);
  EXPECT_EQ(store.pool().num_used(), used);
  EXPECT_TRUE(sequence.append(2));
}

TEST(KvSequence, PagesGoWhenNobodyHoldsThemAnyMore) {
  KvStore store(small_store());
  PagePool& pool = store.pool();
  auto first = std::make_unique<KvSequence>(store);
  ASSERT_TRUE(first->append(8));
  const std::int32_t page = first->page_table(1)[0];
  KvSequence second(store);
  ASSERT_TRUE(second.append_pages(8, {0, 1}));
  EXPECT_EQ(second.length(), 8);
  EXPECT_EQ(pool.num_used(), 6);
  EXPECT_EQ(second.page_table(1)[0], KvSequence::kNoPage);
  second.share_page(1, 0, page);
  EXPECT_EQ(pool.num_references(page), 2);
  EXPECT_EQ(pool.num_used(), 6);
  EXPECT_EQ(second.held_bytes(), 3 * store.page_bytes());
  first.reset();
  EXPECT_EQ(pool.num_references(page), 1);
  EXPECT_EQ(pool.num_used(), 3);
  ASSERT_TRUE(second.append(3));
  EXPECT_EQ(second.slot(1, 2), page * 4 + 2);
  second.truncate(0);
  EXPECT_EQ(pool.num_used(), 0);
}

TEST(KvSequence, OnlyWholePagesCanBeLeftOut) {
  KvStore store(small_store(8));
  KvSequence sequence(store);
  EXPECT_THROW(sequence.append_pages(6, {0, 2}), std::logic_error);
  ASSERT_TRUE(sequence.append_pages(8, {1, 2}));
  EXPECT_THROW(sequence.share_page(1, 0, 0), std::logic_error);
  EXPECT_FALSE(sequence.append_pages(20, {0, 2}));
  EXPECT_EQ(sequence.length(), 8);
  EXPECT_EQ(store.pool().num_used(), 2);
}

TEST(KvSequence, ClearedPagesAreZerosAndOthersStay) {
  KvStore store({.num_layers = 2,
                 .num_kv_heads = 1,
                 .head_dim = 2,
                 .page_size = 4,
                 .dtype = DType::kF32,
                 .max_tokens = 32});
  KvSequence first(store);
  KvSequence second(store);
  ASSERT_TRUE(first.append(4) && second.append(9) && first.append(4));
  const TensorView k = store.k_pages();
  const TensorView v = store.v_pages();
  const std::int64_t count = k.size(0) * k.stride(0);
  std::fill_n(k.as<float>(), count, std::numeric_limits<float>::quiet_NaN());
  std::fill_n(v.as<float>(), count, 3.0F);
  second.release_page(1, 0);
  clear_pages(second);
  for (int layer = 0; layer < 2; ++layer) {
    for (const KvSequence* sequence : {&first, &second}) {
      for (const std::int32_t page : sequence->page_table(layer)) {
        if (page == KvSequence::kNoPage) continue;
        for (std::int64_t i = page * k.stride(0); i < (page + 1) * k.stride(0); ++i) {
          EXPECT_EQ(std::isnan(k.as<float>()[i]), sequence == &first);
          EXPECT_EQ(v.as<float>()[i], sequence == &first ? 3.0F : 0.0F);
        }
      }
    }
  }
}

TEST(KvSequence, BatchesGatherTablesAndSlots) {
  KvStore store(small_store());
  KvSequence a(store);
  KvSequence b(store);
  ASSERT_TRUE(a.append(9));
  ASSERT_TRUE(b.append(2));
  const KvRows rows[] = {{&a, 7, 2}, {&b, 0, 2}};
  ASSERT_EQ(max_pages(rows), 3);
  std::vector<std::int64_t> slots(4);
  write_slots(rows, 1, {}, slots.data());
  EXPECT_EQ(slots, (std::vector{a.slot(1, 7), a.slot(1, 8), b.slot(1, 0), b.slot(1, 1)}));
  std::vector<std::int32_t> tables(8, 99);
  write_page_tables(rows, 1, 4, tables.data());
  const auto of_a = a.page_table(1);
  const std::int32_t none = KvSequence::kNoPage;
  EXPECT_EQ(tables,
            (std::vector{of_a[0], of_a[1], of_a[2], none, b.page_table(1)[0], none, none, none}));
}

TEST(KvStore, PagesMayBeFewerThanTokensInEveryLayerNeed) {
  KvStoreConfig config = small_store(1000);
  config.max_pages = 3 * config.num_layers;
  KvStore store(config);
  EXPECT_EQ(store.pool().capacity(), config.max_pages);
  KvSequence sequence(store);
  EXPECT_TRUE(sequence.append(3 * config.page_size));
  EXPECT_FALSE(sequence.append(1));
}

TEST(KvStore, WrongSizesAreRefused) {
  KvStoreConfig config = small_store();
  config.head_dim = 0;
  EXPECT_THROW(KvStore{config}, InvalidArgument);
  config = small_store();
  config.dtype = DType::kI8;
  EXPECT_THROW(KvStore{config}, InvalidArgument);
}

}  // namespace
}  // namespace perpend
