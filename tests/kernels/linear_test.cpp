#include "perpend/kernels/cpu/linear.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/kernels/cpu/linear_pack.h"

namespace perpend {
namespace {

// A random weight in a file's format, with what it decodes to.
struct Weight {
  Weight(BlockFormat format, std::int64_t out_features, std::int64_t in_features, Random& random)
      : values(static_cast<std::size_t>(out_features * in_features)),
        bytes(row_bytes(format, in_features) * static_cast<std::size_t>(out_features)),
        source{format, out_features, in_features, bytes.data()} {
    if (info_of(format).can_quantize) {
      for (float& value : values) value = 2 * random.next_float() - 1;
      quantize_row(format, values, bytes);
    } else {
      // Any bytes are a block; the sign and exponent of its f16 scales are kept small.
      for (auto& byte : bytes) byte = static_cast<std::byte>(random.next_u32() & 0x2fU);
    }
    dequantize_row(format, bytes, values);
  }
  Weight(const Weight&) = delete;

  std::vector<float> values;  // [out_features, in_features]
  std::vector<std::byte> bytes;
  WeightSource source;
};

std::vector<float> random_rows(std::int64_t rows, std::int64_t columns, Random& random) {
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  for (float& value : x) value = (2 * random.next_float() - 1) * (1 + 3 * random.next_float());
  return x;
}

// x as the integer kernels see it: blocks of 32, scale max / 2032, nearest even.
std::vector<double> quantized_view(const std::vector<float>& x) {
  std::vector<double> result(x.size());
  for (std::size_t begin = 0; begin < x.size(); begin += 32) {
    float largest = 0;
    for (std::size_t i = begin; i < begin + 32; ++i) largest = std::max(largest, std::abs(x[i]));
    for (std::size_t i = begin; i < begin + 32; ++i) {
      const float inverse = largest > 0 ? 2032.0F / largest : 0.0F;
      result[i] = std::nearbyint(x[i] * inverse) * static_cast<double>(largest / 2032.0F);
    }
  }
  return result;
}

double relative_error(const std::vector<float>& found, const std::vector<double>& expected) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i])) return std::numeric_limits<double>::infinity();
    error += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / std::max(norm, 1e-30));
}

std::vector<double> exact_product(const std::vector<double>& x, const std::vector<float>& w,
                                  std::int64_t rows, std::int64_t outs, std::int64_t ins) {
  std::vector<double> y(static_cast<std::size_t>(rows * outs));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < outs; ++o) {
      double sum = 0;
      for (std::int64_t i = 0; i < ins; ++i) {
        sum += x[static_cast<std::size_t>(r * ins + i)] * w[static_cast<std::size_t>(o * ins + i)];
      }
      y[static_cast<std::size_t>(r * outs + o)] = sum;
    }
  }
  return y;
}

std::vector<float> run(CpuIsa isa, const PackedWeight& weight, std::vector<float>& x,
                       std::int64_t rows, ThreadPool& pool) {
  std::vector<float> out(static_cast<std::size_t>(rows * weight.out_features),
                         std::numeric_limits<float>::quiet_NaN());
  AlignedBuffer scratch;
  LinearArgs args;
  args.x = TensorView::dense(x.data(), {rows, weight.in_features});
  args.weight = &weight;
  args.out = TensorView::dense(out.data(), {rows, weight.out_features});
  args.scratch = &scratch;
  cpu_linear(linear_micro(isa), args, {&pool});
  return out;
}

constexpr BlockFormat kAllFormats[] = {BlockFormat::kF32,  BlockFormat::kF16,  BlockFormat::kBF16,
                                       BlockFormat::kQ4_0, BlockFormat::kQ4_1, BlockFormat::kQ5_0,
                                       BlockFormat::kQ5_1, BlockFormat::kQ8_0, BlockFormat::kQ4_K,
                                       BlockFormat::kQ5_K, BlockFormat::kQ6_K};

class LinearFormats : public testing::TestWithParam<BlockFormat> {};

TEST_P(LinearFormats, MatchesTheExactProductOnEveryInstructionSet) {
  const BlockFormat format = GetParam();
  Random random(7);
  ThreadPool pool(2);
  const std::int64_t step = info_of(format).block_size == 1 ? 7 : info_of(format).block_size;
  for (std::int64_t rows : {1, 2, 3, 7, 8, 13, 67}) {
    const auto outs = static_cast<std::int64_t>(1 + random.next_below(70));
    const std::int64_t ins = step * static_cast<std::int64_t>(1 + random.next_below(5));
    const Weight weight(format, outs, ins, random);
    std::vector<float> x = random_rows(rows, ins, random);
    const std::vector<double> exact(x.begin(), x.end());
    for (LinearMode mode : {LinearMode::kQuantized, LinearMode::kF32}) {
      const PackedWeight packed = cpu_pack({&weight.source, 1}, mode, {&pool});
      const bool integer = packed.layout < PanelLayout::kF32;
      const auto expected =
          exact_product(integer ? quantized_view(x) : exact, weight.values, rows, outs, ins);
      // K formats lose what f16 can not hold; everything else only rounds f32 sums.
      const double bound = packed.layout == PanelLayout::kF16 ? 1e-3 : 2e-6;
      for (CpuIsa isa : available_cpu_isas()) {
        EXPECT_LT(relative_error(run(isa, packed, x, rows, pool), expected), bound)
            << name_of(format) << " " << name_of(isa) << " rows " << rows << " " << outs << "x"
            << ins;
      }
      if (integer) {
        const auto unquantised = exact_product(exact, weight.values, rows, outs, ins);
        EXPECT_LT(relative_error(run(CpuIsa::kScalar, packed, x, rows, pool), unquantised), 2e-3);
      }
    }
  }
}

TEST_P(LinearFormats, BitsDependNeitherOnIsaNorThreadsNorOtherRows) {
  Random random(8);
  ThreadPool one(1);
  ThreadPool three(3);
  const Weight weight(GetParam(), 83, 256, random);
  std::vector<float> x = random_rows(21, 256, random);
  for (LinearMode mode : {LinearMode::kQuantized, LinearMode::kF32}) {
    const PackedWeight packed = cpu_pack({&weight.source, 1}, mode, {&three});
    const auto expected = run(CpuIsa::kScalar, packed, x, 21, one);
    for (CpuIsa isa : available_cpu_isas()) {
      EXPECT_EQ(run(isa, packed, x, 21, three), expected) << name_of(isa);
      std::vector<float> last(x.end() - 256, x.end());
      const auto alone = run(isa, packed, last, 1, one);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), expected.end() - 83)) << name_of(isa);
    }
  }
}

TEST_P(LinearFormats, GatheredRowsAreTheDecodedOnes) {
  Random random(9);
  ThreadPool pool(2);
  const Weight weight(GetParam(), 50, 256, random);
  for (LinearMode mode : {LinearMode::kQuantized, LinearMode::kF32}) {
    const PackedWeight packed = cpu_pack({&weight.source, 1}, mode, {&pool});
    const std::vector<std::int32_t> rows = {0, 49, 17, 17};
    std::vector<float> out(4 * 256);
    cpu_gather_rows(packed, rows, TensorView::dense(out.data(), {4, 256}), {&pool});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t column = 0; column < 256; ++column) {
        const float expected = weight.values[static_cast<std::size_t>(rows[i]) * 256 + column];
        EXPECT_NEAR(out[i * 256 + column], expected,
                    packed.layout == PanelLayout::kF16 ? std::abs(expected) * 1e-3 : 0.0);
      }
    }
    const std::vector<std::int32_t> beyond = {50};
    EXPECT_THROW(cpu_gather_rows(packed, beyond, TensorView::dense(out.data(), {1, 256}), {&pool}),
                 InvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, LinearFormats, testing::ValuesIn(kAllFormats),
                         [](auto& param) { return std::string(name_of(param.param)); });

TEST(Linear, SeveralSourcesAreOneMatrix) {
  Random random(10);
  ThreadPool pool(2);
  for (BlockFormat a : kAllFormats) {
    for (BlockFormat b : kAllFormats) {
      const Weight first(a, 19, 256, random);
      const Weight second(b, 5, 256, random);
      const WeightSource sources[] = {first.source, second.source};
      const PackedWeight both = cpu_pack(sources, LinearMode::kQuantized, {&pool});
      std::vector<std::int32_t> rows = {0, 18, 19, 23};
      std::vector<float> out(4 * 256);
      cpu_gather_rows(both, rows, TensorView::dense(out.data(), {4, 256}), {&pool});
      for (std::size_t column = 0; column < 256; ++column) {
        const float last = second.values[4 * 256 + column];
        EXPECT_NEAR(out[3 * 256 + column], last, std::abs(last) * 1e-3 + 1e-7) << name_of(a);
        const float start = first.values[column];
        EXPECT_NEAR(out[column], start, std::abs(start) * 1e-3 + 1e-7) << name_of(b);
      }
    }
  }
}

TEST(Linear, BiasAccumulationAndStrides) {
  Random random(11);
  ThreadPool pool(2);
  const Weight weight(BlockFormat::kQ4_1, 20, 64, random);
  const PackedWeight packed = cpu_pack({&weight.source, 1}, LinearMode::kQuantized, {&pool});
  std::vector<float> x = random_rows(3, 64, random);
  const auto plain = run(best_cpu_isa(), packed, x, 3, pool);
  std::vector<float> wide_x(3 * 100, 1e30F);
  std::vector<float> wide_out(3 * 33, 5.0F);
  for (std::size_t row = 0; row < 3; ++row) {
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(row * 64), 64,
                wide_x.begin() + static_cast<std::ptrdiff_t>(row * 100));
  }
  std::vector<float> bias(20);
  for (float& value : bias) value = random.next_float();
  AlignedBuffer scratch;
  LinearArgs args;
  args.x = {wide_x.data(), DType::kF32, {3, 64}, {100, 1}, {}};
  args.weight = &packed;
  args.bias = bias.data();
  args.out = {wide_out.data(), DType::kF32, {3, 20}, {33, 1}, {}};
  args.accumulate = true;
  args.scratch = &scratch;
  cpu_quantized_table().linear(args, {&pool});
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 33; ++column) {
      const float expected = column < 20 ? 5.0F + (plain[row * 20 + column] + bias[column]) : 5.0F;
      EXPECT_EQ(wide_out[row * 33 + column], expected);
    }
  }
}

TEST_P(LinearFormats, SomeOutputsAreThoseOfAll) {
  Random random(14);
  ThreadPool pool(2);
  const Weight weight(GetParam(), 83, 256, random);
  std::vector<float> x = random_rows(5, 256, random);
  std::vector<float> bias(83);
  for (float& value : bias) value = random.next_float();
  const PackedWeight packed = cpu_pack({&weight.source, 1}, LinearMode::kQuantized, {&pool});
  const auto all = run(best_cpu_isa(), packed, x, 5, pool);
  AlignedBuffer scratch;
  LinearArgs args;
  args.x = TensorView::dense(x.data(), {5, 256});
  args.weight = &packed;
  args.bias = bias.data();
  args.scratch = &scratch;
  for (const Range outputs : {Range{0, 16}, Range{16, 83}, Range{32, 37}, Range{80, 83}}) {
    std::vector<float> part(static_cast<std::size_t>(5 * outputs.size()), NAN);
    args.out = TensorView::dense(part.data(), {5, outputs.size()});
    args.outputs = outputs;
    cpu_quantized_table().linear(args, {&pool});
    for (std::int64_t i = 0; i < 5 * outputs.size(); ++i) {
      const std::int64_t output = outputs.begin + i % outputs.size();
      EXPECT_EQ(part[static_cast<std::size_t>(i)],
                all[static_cast<std::size_t>(i / outputs.size() * 83 + output)] +
                    bias[static_cast<std::size_t>(output)]);
    }
  }
  for (const Range outputs : {Range{8, 24}, Range{80, 84}}) {
    std::vector<float> part(5 * 16);
    args.out = TensorView::dense(part.data(), {5, outputs.size()});
    args.outputs = outputs;
    EXPECT_THROW(cpu_quantized_table().linear(args, {&pool}), InvalidArgument);
  }
}

TEST(Linear, ShapesThatDoNotFitAreRefused) {
  Random random(12);
  ThreadPool pool(1);
  const Weight a(BlockFormat::kQ4_1, 4, 64, random);
  const Weight b(BlockFormat::kQ4_1, 4, 32, random);
  const WeightSource sources[] = {a.source, b.source};
  EXPECT_THROW(cpu_pack(sources, LinearMode::kQuantized, {&pool}), InvalidArgument);
  const PackedWeight packed = cpu_pack({&a.source, 1}, LinearMode::kQuantized, {&pool});
  std::vector<float> x(64 * 2);
  std::vector<float> out(8);
  AlignedBuffer scratch;
  LinearArgs args;
  args.x = TensorView::dense(x.data(), {2, 64});
  args.weight = &packed;
  args.out = TensorView::dense(out.data(), {1, 4});
  args.scratch = &scratch;
  EXPECT_THROW(cpu_quantized_table().linear(args, {&pool}), InvalidArgument);
  args.out = TensorView::dense(out.data(), {2, 3});
  EXPECT_THROW(cpu_quantized_table().linear(args, {&pool}), InvalidArgument);
}

}  // namespace
}  // namespace perpend
