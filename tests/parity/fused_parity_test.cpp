// The fused row-wise kernels on every instruction set of this machine against f64 formulas.

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/cpu/fused.h"

namespace perpend {
namespace {

std::vector<float> random_values(std::size_t count, Random& random, float scale = 3.0F) {
  std::vector<float> values(count);
  for (float& value : values) value = (2 * random.next_float() - 1) * scale;
  return values;
}

class FusedParity : public testing::TestWithParam<CpuIsa> {
 protected:
  static const RowMicro& micro() { return row_micro(GetParam()); }
  ThreadPool pool_{2};
  Random random_{11};
};

TEST_P(FusedParity, RmsNormWithAndWithoutResidual) {
  for (std::int64_t dim : {1, 5, 16, 33, 576}) {
    for (bool with_residual : {false, true}) {
      const std::int64_t rows = 7;
      const auto size = static_cast<std::size_t>(rows * dim);
      auto x = random_values(size, random_);
      auto residual = random_values(size, random_);
      auto weight = random_values(static_cast<std::size_t>(dim), random_);
      std::vector<float> out(size, std::numeric_limits<float>::quiet_NaN());
      const auto before = x;
      RmsNormArgs args;
      args.x = TensorView::dense(x.data(), {rows, dim});
      if (with_residual) args.residual = TensorView::dense(residual.data(), {rows, dim});
      args.weight = TensorView::dense(weight.data(), {dim});
      args.out = TensorView::dense(out.data(), {rows, dim});
      cpu_rms_norm(micro(), args, {&pool_});
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(r * dim + i); };
        const auto sum = [&](std::int64_t i) {
          return static_cast<double>(before[at(i)]) + (with_residual ? residual[at(i)] : 0.0F);
        };
        double squares = 0;
        for (std::int64_t i = 0; i < dim; ++i) squares += sum(i) * sum(i);
        const double rms = std::sqrt(squares / static_cast<double>(dim) + 1e-5);
        for (std::int64_t i = 0; i < dim; ++i) {
          const double expected = sum(i) / rms * weight[static_cast<std::size_t>(i)];
          EXPECT_NEAR(out[at(i)], expected, 2e-6 * (1 + std::abs(expected)));
          EXPECT_NEAR(x[at(i)], sum(i), 1e-6);
        }
      }
    }
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST_P(FusedParity, GatedMlpOfEveryActivation) {
  for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    const std::int64_t dim = 37;
    auto gate_up = random_values(static_cast<std::size_t>(2 * 2 * dim), random_, 20.0F);
    gate_up[0] = 500.0F;
    gate_up[1] = -500.0F;
    std::vector<float> out(static_cast<std::size_t>(2 * dim), NAN);
    cpu_gated_mlp(micro(),
                  {TensorView::dense(gate_up.data(), {2, 2 * dim}),
                   TensorView::dense(out.data(), {2, dim}), activation},
                  {&pool_});
    for (std::int64_t i = 0; i < 2 * dim; ++i) {
      const std::int64_t row = i / dim;
      const double gate = gate_up[static_cast<std::size_t>(row * 2 * dim + i % dim)];
      const double up = gate_up[static_cast<std::size_t>(row * 2 * dim + dim + i % dim)];
      double activated = gate * sigmoid(gate);
      if (activation == Activation::kGelu) {
        activated = 0.5 * gate * (1 + std::erf(gate / std::sqrt(2.0)));
      } else if (activation == Activation::kGeluTanh) {
        const double inner = std::sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate);
        activated = 0.5 * gate * (1 + std::tanh(inner));
      }
      EXPECT_NEAR(out[static_cast<std::size_t>(i)], activated * up,
                  2e-5 * (1 + std::abs(activated * up)));
    }
  }
}

TEST_P(FusedParity, VocabularySummaries) {
  for (std::int64_t vocab_size : {1, 3, 17, 1000, 49152}) {
    auto logits = random_values(static_cast<std::size_t>(2 * vocab_size), random_, 10.0F);
    // Equal maxima: the first counts.
    if (vocab_size > 20) logits[5] = logits[9] = 30.0F;
    std::vector<VocabularySummary> summaries(2);
    cpu_vocabulary(micro(), {TensorView::dense(logits.data(), {2, vocab_size}), summaries},
                   {&pool_});
    for (std::size_t row = 0; row < 2; ++row) {
      const float* values = logits.data() + row * static_cast<std::size_t>(vocab_size);
      const auto best = std::max_element(values, values + vocab_size);
      double sum = 0;
      for (std::int64_t i = 0; i < vocab_size; ++i) {
        sum += std::exp(static_cast<double>(values[i]) - *best);
      }
      EXPECT_EQ(summaries[row].argmax, best - values);
      EXPECT_EQ(summaries[row].max, *best);
      EXPECT_NEAR(summaries[row].logsumexp, *best + std::log(sum), 1e-5);
    }
  }
}

TEST_P(FusedParity, RotaryTurnsAndFillsTheCache) {
  for (RotaryLayout layout : {RotaryLayout::kHalfSplit, RotaryLayout::kInterleaved}) {
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const std::int64_t rows = 5;
      const std::int64_t dim = 42;  // 34 turn, 8 are copied
      const std::int64_t half = 17;
      auto q = random_values(static_cast<std::size_t>(rows * 4 * dim), random_);
      auto k = random_values(static_cast<std::size_t>(rows * 2 * dim), random_);
      auto v = random_values(static_cast<std::size_t>(rows * 2 * dim), random_);
      const auto q_before = q;
      std::vector<std::int32_t> positions = {3, 0, 9, 4, 1};
      std::vector<std::int64_t> slots = {7, 0, 3, 2, 5};
      std::vector<float> cos(static_cast<std::size_t>(10 * half));
      std::vector<float> sin(cos.size());
      for (std::size_t i = 0; i < cos.size(); ++i) {
        const std::size_t position = i / 17;
        const double angle =
            static_cast<double>(position) * std::pow(100.0, -static_cast<double>(i % 17) / 17);
        cos[i] = static_cast<float>(std::cos(angle));
        sin[i] = static_cast<float>(std::sin(angle));
      }
      std::vector<std::byte> k_memory(static_cast<std::size_t>(8 * 2 * dim) * size_of(dtype));
      auto v_memory = k_memory;
      // Two pages of four rows, heads outside rows.
      const auto pages = [&](std::vector<std::byte>& memory) {
        return TensorView{memory.data(), dtype, {2, 4, 2, dim}, {4 * 2 * dim, dim, 4 * dim, 1}, {}};
      };
      RotaryCacheArgs args;
      args.q = TensorView::dense(q.data(), {rows, 4, dim});
      args.k = TensorView::dense(k.data(), {rows, 2, dim});
      args.v = TensorView::dense(v.data(), {rows, 2, dim});
      args.positions = TensorView::dense(positions.data(), DType::kI32, {rows});
      args.cos = TensorView::dense(cos.data(), {10, half});
      args.sin = TensorView::dense(sin.data(), {10, half});
      args.k_pages = pages(k_memory);
      args.v_pages = pages(v_memory);
      args.slots = TensorView::dense(slots.data(), DType::kI64, {rows});
      args.layout = layout;
      cpu_rotary_cache(micro(), args, {&pool_});

      const auto turned = [&](const float* head, std::int64_t position, std::int64_t d) {
        if (d >= 2 * half) return static_cast<double>(head[d]);
        const bool split = layout == RotaryLayout::kHalfSplit;
        const std::int64_t pair = split ? d % half : d / 2;
        const bool second = split ? d >= half : d % 2 == 1;
        const double a = head[split ? pair : 2 * pair];
        const double b = head[split ? pair + half : 2 * pair + 1];
        const double c = cos[static_cast<std::size_t>(position * half + pair)];
        const double s = sin[static_cast<std::size_t>(position * half + pair)];
        return second ? a * s + b * c : a * c - b * s;
      };
      const double bound = dtype == DType::kF32 ? 1e-6 : dtype == DType::kF16 ? 2e-3 : 2e-2;
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t position = positions[static_cast<std::size_t>(row)];
        const std::int64_t slot = slots[static_cast<std::size_t>(row)];
        for (std::int64_t d = 0; d < dim; ++d) {
          for (std::int64_t head = 0; head < 4; ++head) {
            const std::int64_t at = (row * 4 + head) * dim;
            EXPECT_NEAR(q[static_cast<std::size_t>(at + d)],
                        turned(q_before.data() + at, position, d), 1e-6);
          }
          for (std::int64_t head = 0; head < 2; ++head) {
            const std::int64_t at = (row * 2 + head) * dim;
            const auto stored = static_cast<std::size_t>(slot / 4 * 4 * 2 * dim + head * 4 * dim +
                                                         slot % 4 * dim + d);
            const auto load = [&](const std::vector<std::byte>& memory) {
              if (dtype == DType::kF32)
                return reinterpret_cast<const float*>(memory.data())[stored];
              const auto bits = reinterpret_cast<const std::uint16_t*>(memory.data())[stored];
              return dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
            };
            EXPECT_NEAR(load(k_memory), turned(k.data() + at, position, d), bound);
            EXPECT_NEAR(load(v_memory), v[static_cast<std::size_t>(at + d)], bound);
          }
        }
      }
    }
  }
}

TEST_P(FusedParity, RotaryTurnsQueriesAloneAsItDoesWithKeys) {
  const std::int64_t rows = 4;
  auto q = random_values(static_cast<std::size_t>(rows * 3 * 20), random_);
  auto alone = q;
  std::vector<std::int32_t> positions = {2, 0, 5, 5};
  auto cos = random_values(6 * 10, random_, 1.0F);
  auto sin = random_values(6 * 10, random_, 1.0F);
  auto keys = random_values(static_cast<std::size_t>(rows * 20), random_);
  std::vector<float> pages(static_cast<std::size_t>(rows * 20));
  std::vector<std::int64_t> slots = {0, 1, 2, 3};
  RotaryCacheArgs args;
  args.q = TensorView::dense(alone.data(), {rows, 3, 20});
  args.positions = TensorView::dense(positions.data(), DType::kI32, {rows});
  args.cos = TensorView::dense(cos.data(), {6, 10});
  args.sin = TensorView::dense(sin.data(), {6, 10});
  cpu_rotary_cache(micro(), args, {&pool_});
  args.q = TensorView::dense(q.data(), {rows, 3, 20});
  args.k = args.v = TensorView::dense(keys.data(), {rows, 1, 20});
  args.k_pages = args.v_pages = TensorView::dense(pages.data(), {1, rows, 1, 20});
  args.slots = TensorView::dense(slots.data(), DType::kI64, {rows});
  cpu_rotary_cache(micro(), args, {&pool_});
  EXPECT_EQ(alone, q);
}

TEST_P(FusedParity, WrongShapesAreRefused) {
  std::vector<float> values(64);
  const auto view = [&](const Dims& shape) { return TensorView::dense(values.data(), shape); };
  RmsNormArgs norm;
  norm.x = view({2, 8});
  norm.out = view({2, 8});
  norm.weight = view({7});
  EXPECT_THROW(cpu_rms_norm(micro(), norm, {&pool_}), InvalidArgument);
  EXPECT_THROW(cpu_gated_mlp(micro(), {view({2, 8}), view({2, 3}), Activation::kSilu}, {&pool_}),
               InvalidArgument);
  std::vector<VocabularySummary> summaries(1);
  EXPECT_THROW(cpu_vocabulary(micro(), {view({2, 8}), summaries}, {&pool_}), InvalidArgument);
}

TEST_P(FusedParity, PositionsAndSlotsOutsideTheirTablesAreRefused) {
  std::vector<float> values(64);
  const auto view = [&](const Dims& shape) { return TensorView::dense(values.data(), shape); };
  std::int32_t position = 0;
  std::int64_t slot = 0;
  RotaryCacheArgs args;
  args.q = view({1, 1, 4});
  args.k = view({1, 1, 4});
  args.v = view({1, 1, 4});
  args.positions = TensorView::dense(&position, DType::kI32, {1});
  args.cos = view({3, 2});
  args.sin = view({3, 2});
  args.k_pages = view({2, 2, 1, 4});
  args.v_pages = view({2, 2, 1, 4});
  args.slots = TensorView::dense(&slot, DType::kI64, {1});
  EXPECT_NO_THROW(cpu_rotary_cache(micro(), args, {&pool_}));
  for (std::int32_t wrong : {-1, 3}) {
    position = wrong;
    EXPECT_THROW(cpu_rotary_cache(micro(), args, {&pool_}), InvalidArgument);
  }
  position = 2;
  for (std::int64_t wrong : {-1, 4}) {
    slot = wrong;
    EXPECT_THROW(cpu_rotary_cache(micro(), args, {&pool_}), InvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, FusedParity, testing::ValuesIn(available_cpu_isas()),
                         [](auto& param) { return std::string(name_of(param.param)); });

}  // namespace
}  // namespace perpend
