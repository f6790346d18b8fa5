#pragma once

// A canvas of random keys and queries, some of whose rows changed, and what is to be found of it in
// f64.

#include <algorithm>
#include <cmath>
#include <vector>

#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/core/range.h"
#include "perpend/kernels/attention_drift.h"

namespace perpend {

struct DriftCase {
  std::int64_t layers = 2;
  std::int64_t canvas = 150;
  std::int64_t num_q_heads = 4;
  std::int64_t num_kv_heads = 2;
  std::int64_t head_dim = 32;
  std::int64_t page_size = 64;
  std::vector<std::int32_t> window = {7, 90, 91, 149};
  std::vector<std::int32_t> tracked = {0, 64, 91};
  std::vector<std::int32_t> changed = {0, 7, 63, 64, 90, 91, 128, 149};
  DType dtype = DType::kF32;
  DType key_dtype = DType::kF32;
  bool by_keys = false;
  float amplitude = 1.5F;
};

// Random values of a type, as f64 and as bytes.
class DriftValues {
 public:
  DriftValues() = default;
  DriftValues(std::int64_t count, DType dtype, float amplitude, Random& random) : dtype_(dtype) {
    for (std::int64_t i = 0; i < count; ++i) set(i, (2 * random.next_float() - 1) * amplitude);
  }

  double at(std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }
  // Appends, or replaces.
  void set(std::int64_t i, float value) {
    const auto index = static_cast<std::size_t>(i);
    if (index >= values_.size()) values_.resize(index + 1);
    bytes_.resize(values_.size() * size_of(dtype_));
    if (dtype_ == DType::kF32) {
      reinterpret_cast<float*>(bytes_.data())[index] = value;
      values_[index] = value;
      return;
    }
    const bool is_f16 = dtype_ == DType::kF16;
    const std::uint16_t bits = is_f16 ? f32_to_f16(value) : f32_to_bf16(value);
    reinterpret_cast<std::uint16_t*>(bytes_.data())[index] = bits;
    values_[index] = is_f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  DType dtype_ = DType::kF32;
  std::vector<float> values_;
  std::vector<std::byte> bytes_;
};

class DriftOperands {
 public:
  DriftOperands(const DriftCase& of, std::uint64_t seed) : c(of) {
    Random random(seed);
    const auto values = [&](std::int64_t count, DType dtype) {
      return DriftValues(count, dtype, c.amplitude, random);
    };
    const std::int64_t row = c.num_q_heads * c.head_dim;
    queries = values(c.layers * c.canvas * row, c.dtype);
    old_queries = values(c.layers * num_tracked() * row, c.dtype);
    // Little has changed, so that cosines are of every size.
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      for (std::int64_t t = 0; t < num_tracked(); ++t) {
        for (std::int64_t i = 0; i < row; ++i) {
          const std::int64_t now = (layer * c.canvas + c.tracked[std::size_t(t)]) * row + i;
          const double old =
              queries.at(now) + 0.3 * static_cast<double>(layer) *
                                    old_queries.at((layer * num_tracked() + t) * row + i);
          old_queries.set((layer * num_tracked() + t) * row + i, static_cast<float>(old));
        }
      }
    }
    old_keys = values(c.layers * std::ssize(c.changed) * c.num_kv_heads * c.head_dim, c.key_dtype);
    k_pages = values(num_pages() * c.page_size * c.num_kv_heads * c.head_dim, c.key_dtype);
    change_of.assign(static_cast<std::size_t>(c.canvas), -1);
    for (std::size_t i = 0; i < c.changed.size(); ++i) {
      change_of[static_cast<std::size_t>(c.changed[i])] = static_cast<std::int32_t>(i);
    }
    // Pages in any order, the first one of none.
    for (std::int64_t i = 0; i < c.layers * pages_of_layer(); ++i) {
      page_tables.push_back(static_cast<std::int32_t>(num_pages() - 1 - i));
    }
    attended.assign(static_cast<std::size_t>(c.layers * c.canvas), std::nanf(""));
    similarity.assign(static_cast<std::size_t>(c.layers), std::nanf(""));
    const AttentionDriftArgs sizes = args();
    statistics.assign(static_cast<std::size_t>(drift_statistics(sizes)), std::nanf(""));
  }

  // Of arrays wherever view(array, dtype, shape) says that they are.
  template <class View>
  AttentionDriftArgs args_on(View&& view) {
    AttentionDriftArgs args{
        .queries = view(queries.bytes(), c.dtype, {c.layers, c.canvas, c.num_q_heads, c.head_dim}),
        .window = view(c.window, DType::kI32, {std::ssize(c.window)}),
        .k_pages = view(k_pages.bytes(), c.key_dtype,
                        {num_pages(), c.num_kv_heads, c.page_size, c.head_dim}),
        .page_tables = view(page_tables, DType::kI32, {c.layers, pages_of_layer()}),
        .statistics = view(statistics, DType::kF32, {std::ssize(statistics)}),
        .attended = view(attended, DType::kF32, {c.layers, c.canvas}),
        .similarity = view(similarity, DType::kF32, {c.layers}),
        .by_keys = c.by_keys};
    std::swap(args.k_pages.shape[1], args.k_pages.shape[2]);
    std::swap(args.k_pages.strides[1], args.k_pages.strides[2]);
    if (c.tracked.empty()) return args;
    args.old_queries =
        view(old_queries.bytes(), c.dtype, {c.layers, num_tracked(), c.num_q_heads, c.head_dim});
    args.tracked = view(c.tracked, DType::kI32, {num_tracked()});
    if (c.changed.empty()) return args;
    args.old_keys = view(old_keys.bytes(), c.key_dtype,
                         {c.layers, std::ssize(c.changed), c.num_kv_heads, c.head_dim});
    args.changed = view(c.changed, DType::kI32, {std::ssize(c.changed)});
    return args;
  }
  AttentionDriftArgs args() {
    return args_on([](auto& values, DType dtype, const Dims& shape) {
      return TensorView::dense(values.data(), dtype, shape);
    });
  }

  std::int64_t num_tracked() const { return std::ssize(c.tracked); }
  std::int64_t pages_of_layer() const { return ceil_div(c.canvas, c.page_size); }
  std::int64_t num_pages() const { return c.layers * pages_of_layer() + 1; }

  DriftCase c;
  DriftValues queries, old_queries, old_keys, k_pages;
  std::vector<std::int32_t> change_of, page_tables;
  std::vector<float> statistics, attended, similarity;
};

// The formulas of kernels/attention_drift.h, one value after another.
class DriftOracle {
 public:
  explicit DriftOracle(const DriftOperands& operands) : o_(operands), c_(operands.c) {}

  std::vector<double> attended(std::int64_t layer) const {
    std::vector<double> sums(static_cast<std::size_t>(c_.canvas));
    for (const std::int32_t row : c_.window) {
      for (std::int64_t head = 0; head < c_.num_q_heads; ++head) {
        const std::vector<double> weights = this->weights(layer, row, head, false);
        std::ranges::transform(sums, weights, sums.begin(), std::plus<>());
      }
    }
    return sums;
  }

  double similarity(std::int64_t layer) const {
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < o_.num_tracked(); ++t) {
      std::vector<std::vector<double>> before;
      std::vector<std::vector<double>> after;
      for (std::int64_t head = 0; head < c_.num_q_heads; ++head) {
        before.push_back(weights(layer, t, head, true));
        after.push_back(weights(layer, c_.tracked[static_cast<std::size_t>(t)], head, false));
      }
      const std::size_t heads = before.size();
      const auto keys = static_cast<std::size_t>(c_.canvas);
      const std::size_t vectors = c_.by_keys ? heads : keys;
      for (std::size_t v = 0; v < vectors; ++v) {
        double both = 0, a = 0, b = 0;
        for (std::size_t i = 0; i < (c_.by_keys ? keys : heads); ++i) {
          const double x = c_.by_keys ? before[v][i] : before[i][v];
          const double y = c_.by_keys ? after[v][i] : after[i][v];
          both += x * y;
          a += x * x;
          b += y * y;
        }
        sum += both / std::sqrt(a * b);
        ++count;
      }
    }
    return count == 0 ? 1 : sum / static_cast<double>(count);
  }

 private:
  double key(std::int64_t layer, std::int64_t place, std::int64_t head, std::int64_t i,
             bool is_old) const {
    const std::int32_t change = o_.change_of[static_cast<std::size_t>(place)];
    if (is_old && change >= 0) {
      const std::int64_t row = layer * std::ssize(c_.changed) + change;
      return o_.old_keys.at((row * c_.num_kv_heads + head) * c_.head_dim + i);
    }
    const std::int64_t page = o_.page_tables[static_cast<std::size_t>(layer * o_.pages_of_layer() +
                                                                      place / c_.page_size)];
    const std::int64_t row = (page * c_.num_kv_heads + head) * c_.page_size + place % c_.page_size;
    return o_.k_pages.at(row * c_.head_dim + i);
  }

  // Of a row of the canvas, or of the old queries.
  std::vector<double> weights(std::int64_t layer, std::int64_t row, std::int64_t head,
                              bool is_old) const {
    const DriftValues& queries = is_old ? o_.old_queries : o_.queries;
    const std::int64_t rows = is_old ? o_.num_tracked() : c_.canvas;
    const std::int64_t first = ((layer * rows + row) * c_.num_q_heads + head) * c_.head_dim;
    std::vector<double> weights;
    for (std::int64_t place = 0; place < c_.canvas; ++place) {
      double score = 0;
      for (std::int64_t i = 0; i < c_.head_dim; ++i) {
        const std::int64_t kv_head = head / (c_.num_q_heads / c_.num_kv_heads);
        score += queries.at(first + i) * key(layer, place, kv_head, i, is_old);
      }
      weights.push_back(score / std::sqrt(static_cast<double>(c_.head_dim)));
    }
    const double max = *std::ranges::max_element(weights);
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - max);
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  const DriftOperands& o_;
  const DriftCase& c_;
};

// Cases that a GPU takes too, where not all values are f32.
inline std::vector<DriftCase> drift_cases(DType dtype) {
  DriftCase usual{.dtype = dtype, .key_dtype = dtype};
  DriftCase by_keys = usual;
  by_keys.by_keys = true;
  DriftCase none_tracked = usual;
  none_tracked.tracked = {};
  none_tracked.layers = 1;
  DriftCase none_changed = usual;
  none_changed.changed = {};
  // Every head its own keys, whole tiles, of which one has no changed row and one has changed
  // wholly and in any order; more rows than one group has.
  DriftCase wide = usual;
  wide.layers = 1;
  wide.head_dim = 128;
  wide.num_q_heads = wide.num_kv_heads = 2;
  wide.canvas = 256;
  wide.window = wide.tracked = wide.changed = {};
  for (std::int32_t i = 0; i < 40; ++i) wide.window.push_back(3 * i);
  for (std::int32_t i = 0; i < 20; ++i) wide.tracked.push_back(3 * i + 1);
  for (std::int32_t i = 0; i < 128; ++i) wide.changed.push_back(255 - i);
  DriftCase all_changed = usual;  // more than a tile of them
  all_changed.by_keys = true;
  all_changed.changed = {};
  for (std::int32_t i = 0; i < 150; ++i) all_changed.changed.push_back(i);
  DriftCase short_canvas = usual;  // more heads than a CTA takes, one part of a page
  short_canvas.layers = 1;
  short_canvas.canvas = 20;
  short_canvas.page_size = 128;
  short_canvas.num_q_heads = short_canvas.num_kv_heads = 10;
  short_canvas.head_dim = 16;
  short_canvas.window = {19};
  short_canvas.tracked = {3};
  short_canvas.changed = {3, 19};
  DriftCase long_canvas = usual;  // more keys than a CTA takes, seven heads to each of theirs
  long_canvas.layers = 1;
  long_canvas.canvas = 4300;
  long_canvas.num_q_heads = 7;
  long_canvas.num_kv_heads = 1;
  long_canvas.head_dim = 16;
  long_canvas.window = {0, 2000, 4299};
  long_canvas.tracked = {1, 4100};
  long_canvas.changed = {4100, 1, 511, 512, 640};
  return {usual, by_keys, none_tracked, none_changed, wide, all_changed, short_canvas, long_canvas};
}

}  // namespace perpend
