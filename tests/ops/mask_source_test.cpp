#include "perpend/ops/mask_source.h"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace perpend {
namespace {

AttentionShape shape_of(const std::vector<std::int64_t>& lengths) {
  AttentionShape shape;
  for (const std::int64_t length : lengths) shape.sequences.push_back({length, length, 0});
  return shape;
}

TensorView view_of(std::vector<std::int64_t>& values, const Dims& shape) {
  return TensorView::dense(values.data(), DType::kI64, shape);
}

// Pairs of the mask that `expected` sees otherwise.
int num_differences(const Mask& mask, std::int64_t length,
                    const std::vector<std::int64_t>& same_labels) {
  int count = 0;
  for (std::int64_t q = 0; q < length; ++q) {
    for (std::int64_t k = 0; k < length; ++k) {
      const bool same =
          same_labels[static_cast<std::size_t>(q)] == same_labels[static_cast<std::size_t>(k)];
      count += mask.visible(q, k) != same ? 1 : 0;
    }
  }
  return count;
}

std::string error_of(const MaskSource& source, const AttentionShape& shape) {
  try {
    read_masks(source, shape);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "none";
}

TEST(MaskSource, ReadsTextsAndLabels) {
  const auto masks = read_masks(
      {.texts = {"causal", "same(doc)"}, .bindings = {"half = block(2)", "doc = within(8, half)"}},
      shape_of({8, 8}));
  ASSERT_EQ(masks.size(), 2U);
  EXPECT_EQ(masks[0], Mask::causal());
  EXPECT_TRUE(masks[1].visible(2, 3));
  EXPECT_FALSE(masks[1].visible(1, 2));
}

TEST(MaskSource, OneArrayServesAllSequences) {
  std::vector<std::int64_t> labels = {0, 0, 1, 1, 0};
  const auto masks =
      read_masks({.texts = {"same(doc)"}, .bindings = {"doc"}, .arrays = {view_of(labels, {5})}},
                 shape_of({5, 5}));
  ASSERT_EQ(masks.size(), 1U);
  EXPECT_EQ(num_differences(masks[0], 5, labels), 0);
}

TEST(MaskSource, RowsOfAnArrayGoToSequences) {
  std::vector<std::int64_t> labels = {0, 0, 1, 2, 1, 2};
  const auto masks =
      read_masks({.texts = {"same(doc)"}, .bindings = {"doc"}, .arrays = {view_of(labels, {2, 3})}},
                 shape_of({3, 3}));
  ASSERT_EQ(masks.size(), 2U);
  EXPECT_EQ(num_differences(masks[0], 3, {0, 0, 1}), 0);
  EXPECT_EQ(num_differences(masks[1], 3, {2, 1, 2}), 0);
}

TEST(MaskSource, ARaggedArrayIsCutWhereKeysAre) {
  std::vector<std::int64_t> labels = {0, 0, 1, 2, 1, 2};
  const auto masks =
      read_masks({.texts = {"same(doc)"}, .bindings = {"doc"}, .arrays = {view_of(labels, {6})}},
                 shape_of({2, 4}));
  ASSERT_EQ(masks.size(), 2U);
  EXPECT_EQ(num_differences(masks[0], 2, {0, 0}), 0);
  EXPECT_EQ(num_differences(masks[1], 4, {1, 2, 1, 2}), 0);
}

TEST(MaskSource, ReadsTileMaps) {
  std::vector<std::int64_t> row_begin = {0, 1, 3};
  std::vector<std::int32_t> columns = {1, 0, 1};
  std::vector<std::int32_t> bitmaps = {-1, 0, -1};
  std::vector<std::int64_t> words = {0b01, 0b10};
  const MaskSource source{
      .texts = {"tiles(map)"},
      .bindings = {"map = tiles(2, 2, 2)"},
      .arrays = {view_of(row_begin, {3}), TensorView::dense(columns.data(), DType::kI32, {3}),
                 TensorView::dense(bitmaps.data(), DType::kI32, {3}), view_of(words, {1, 2, 1})}};
  const Mask mask = read_masks(source, shape_of({4})).front();
  const std::vector<std::string> expected = {"0011", "0011", "1011", "0111"};
  for (std::int64_t q = 0; q < 4; ++q) {
    for (std::int64_t k = 0; k < 4; ++k) {
      EXPECT_EQ(mask.visible(q, k),
                expected[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)] == '1');
    }
  }
}

TEST(MaskSource, ErrorsNameWhatIsWrong) {
  std::vector<std::int64_t> labels(6);
  const TensorView array = view_of(labels, {2, 3});
  const AttentionShape shape = shape_of({3, 3, 3});
  using testing::HasSubstr;
  EXPECT_THAT(error_of({.texts = {"all", "all"}}, shape), HasSubstr("(2 masks, 3 sequences)"));
  EXPECT_THAT(error_of({.texts = {"all"}, .bindings = {"doc"}}, shape),
              HasSubstr("no array for 'doc'"));
  EXPECT_THAT(error_of({.texts = {"all"}, .arrays = {array}}, shape),
              HasSubstr("another number of arrays (0 vs 1)"));
  EXPECT_THAT(error_of({.texts = {"all"}, .bindings = {"doc"}, .arrays = {array}}, shape),
              HasSubstr("rows of the array of 'doc' and sequences differ (2 vs 3)"));
  EXPECT_THAT(error_of({.texts = {"all"}, .bindings = {"doc = blck(3)"}}, shape),
              HasSubstr("block"));
  EXPECT_THAT(error_of({.texts = {"all"}, .bindings = {"map = tiles(2, x)"}}, shape),
              HasSubstr("expected tiles(tile_q, tile_k, columns)"));
  TensorView floats = array;
  floats.dtype = DType::kF32;
  EXPECT_THAT(error_of({.texts = {"all"}, .bindings = {"doc"}, .arrays = {floats}}, shape),
              HasSubstr("i32 or i64"));
}

TEST(MaskCache, ComparesArraysByValue) {
  MaskCache cache;
  std::vector<std::int64_t> labels = {0, 0, 1, 1};
  std::vector<std::int64_t> copy = labels;
  const AttentionShape shape = shape_of({4});
  const auto get = [&](std::vector<std::int64_t>& values) {
    return cache.get(
        {.texts = {"same(doc)"}, .bindings = {"doc"}, .arrays = {view_of(values, {4})}}, shape);
  };
  const auto first = get(labels);
  EXPECT_EQ(first, get(labels));
  EXPECT_EQ(first, get(copy));
  labels[3] = 2;
  const auto changed = get(labels);
  EXPECT_EQ(num_differences(changed->front(), 4, labels), 0);
  EXPECT_EQ(first, get(copy));
}

}  // namespace
}  // namespace perpend
