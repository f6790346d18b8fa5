// The CUDA kernels of training against f64 formulas, gradients by those of the definition. Skips on
// a machine without a GPU.

#include <cmath>

#include "tests/kernels/cuda_twin.h"

namespace perpend {
namespace {

using Doubles = std::vector<double>;

class TrainingCuda : public CudaTest {
 protected:
  // Values of one 16-bit type on both sides.
  struct Rounded {
    Rounded(const std::vector<float>& values, DType dtype)
        : bytes(encode(values, dtype)), host(decode(bytes.host, dtype)) {}
    Twin<std::byte> bytes;
    std::vector<float> host;
  };

  Rounded random_rounded(std::int64_t count, DType dtype, float scale = 2.0F) {
    return {random_twin(count, scale).host, dtype};
  }
  static Twin<std::byte> poisoned_bytes(std::int64_t count, DType dtype) {
    return Twin<std::byte>(encode(poisoned_twin(count).host, dtype));
  }

  // norm(found - expected) / norm(expected), NaN for any NaN.
  static double error(const std::vector<float>& found, const Doubles& expected) {
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      difference += (found[i] - expected[i]) * (found[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    return std::sqrt(difference / norm);
  }
  static double bound_of(DType dtype) { return dtype == DType::kF16 ? 4e-4 : 3e-3; }

  const TrainingTable& kernels_ = cuda_kernels().training;
};

// One row of the norm and its gradients, by the definition.
struct NormRow {
  NormRow(const Doubles& sum, const Doubles& weight, double epsilon) {
    double squares = 0;
    for (const double value : sum) squares += value * value;
    inverse = 1 / std::sqrt(squares / static_cast<double>(sum.size()) + epsilon);
    for (std::size_t i = 0; i < sum.size(); ++i) out.push_back(sum[i] * inverse * weight[i]);
  }
  double inverse = 0;
  Doubles out;
};

TEST_F(TrainingCuda, AddRmsNormAndItsGradients) {
  constexpr double kEpsilon = 1e-5;
  for (const DType dtype : kSixteenBits) {
    for (const std::int64_t dim : {4, 132, 512, 576, 1000, 2048}) {
      for (const bool has_delta : {false, true}) {
        const std::int64_t rows = 37;
        const Dims shape = {rows, dim};
        auto x = random_twin(rows * dim);
        auto delta = random_rounded(rows * dim, dtype);
        auto weight = random_twin(dim);
        auto sum = poisoned_twin(rows * dim);
        auto out = poisoned_bytes(rows * dim, dtype);
        auto inverse = poisoned_twin(rows);
        AddRmsNormArgs args{.x = x.on_gpu(DType::kF32, shape),
                            .delta = {},
                            .weight = weight.on_gpu(DType::kF32, {dim}),
                            .sum = {},
                            .out = out.on_gpu(dtype, shape),
                            .inverse_rms = inverse.on_gpu(DType::kF32, {rows}),
                            .epsilon = static_cast<float>(kEpsilon)};
        if (has_delta) {
          args.delta = delta.bytes.on_gpu(dtype, shape);
          args.sum = sum.on_gpu(DType::kF32, shape);
        }
        kernels_.add_rms_norm(args, {});

        auto d_out = random_rounded(rows * dim, dtype);
        auto d_sum = random_twin(rows * dim);
        auto d_x = poisoned_twin(rows * dim);
        auto d_delta = poisoned_bytes(rows * dim, dtype);
        const std::int64_t parts = 3;
        auto d_weight = poisoned_twin(parts * dim);
        kernels_.add_rms_norm_backward(
            {.sum = has_delta ? args.sum : args.x,
             .weight = args.weight,
             .inverse_rms = args.inverse_rms,
             .d_out = d_out.bytes.on_gpu(dtype, shape),
             .d_sum = has_delta ? d_sum.on_gpu(DType::kF32, shape) : TensorView{},
             .d_x = d_x.on_gpu(DType::kF32, shape),
             .d_delta = has_delta ? d_delta.on_gpu(dtype, shape) : TensorView{},
             .d_weight = d_weight.on_gpu(DType::kF32, {parts, dim})},
            {});

        Doubles expected_sum;
        Doubles expected_out;
        Doubles expected_dx;
        Doubles expected_dw(static_cast<std::size_t>(dim));
        const Doubles w(weight.host.begin(), weight.host.end());
        for (std::int64_t r = 0; r < rows; ++r) {
          Doubles row;
          double dot = 0;
          for (std::int64_t i = r * dim; i < (r + 1) * dim; ++i) {
            const auto at = static_cast<std::size_t>(i);
            row.push_back(double{x.host[at]} + (has_delta ? delta.host[at] : 0.0F));
          }
          const NormRow norm(row, w, kEpsilon);
          for (std::int64_t i = 0; i < dim; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const double g = d_out.host[static_cast<std::size_t>(r * dim + i)];
            dot += g * w[at] * row[at];
            expected_dw[at] += g * row[at] * norm.inverse;
          }
          for (std::int64_t i = 0; i < dim; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const auto all = static_cast<std::size_t>(r * dim + i);
            expected_dx.push_back(
                (has_delta ? d_sum.host[all] : 0.0F) +
                norm.inverse * (d_out.host[all] * w[at] - row[at] * norm.inverse * norm.inverse *
                                                              dot / static_cast<double>(dim)));
          }
          expected_sum.insert(expected_sum.end(), row.begin(), row.end());
          expected_out.insert(expected_out.end(), norm.out.begin(), norm.out.end());
        }
        SCOPED_TRACE(testing::Message() << dtype << " dim " << dim << " delta " << has_delta);
        if (has_delta) {
          EXPECT_LT(error(sum.from_gpu(), expected_sum), 1e-6);
          EXPECT_LT(error(decode(d_delta.from_gpu(), dtype), expected_dx), bound_of(dtype));
        }
        EXPECT_LT(error(decode(out.from_gpu(), dtype), expected_out), bound_of(dtype));
        EXPECT_LT(error(d_x.from_gpu(), expected_dx), 3e-6);
        std::vector<float> found_dw(static_cast<std::size_t>(dim));
        const std::vector<float> all_parts = d_weight.from_gpu();
        for (std::size_t i = 0; i < all_parts.size(); ++i)
          found_dw[i % found_dw.size()] += all_parts[i];
        EXPECT_LT(error(found_dw, expected_dw), 3e-6);
      }
    }
  }
}

TEST_F(TrainingCuda, RotaryHeadsTurnAndJoin) {
  constexpr std::int64_t kRows = 19;
  constexpr std::int64_t kQ = 3;
  constexpr std::int64_t kKv = 1;
  struct Case {
    std::int64_t head_dim, half;
    RotaryLayout layout;
  };
  const Case cases[] = {{64, 32, RotaryLayout::kHalfSplit},   {32, 16, RotaryLayout::kHalfSplit},
                        {64, 16, RotaryLayout::kHalfSplit},   {10, 5, RotaryLayout::kHalfSplit},
                        {64, 32, RotaryLayout::kInterleaved}, {64, 24, RotaryLayout::kInterleaved}};
  for (const DType dtype : kSixteenBits) {
    for (const auto& [head_dim, half, layout] : cases) {
      const std::int64_t heads = kQ + 2 * kKv;
      auto qkv = random_rounded(kRows * heads * head_dim, dtype);
      auto angles = random_twin(kRows * half);
      std::vector<float> cosines;
      std::vector<float> sines;
      for (const float angle : angles.host) {
        cosines.push_back(std::cos(angle));
        sines.push_back(std::sin(angle));
      }
      Twin<float> cos(cosines);
      Twin<float> sin(sines);
      auto q = poisoned_bytes(kRows * kQ * head_dim, dtype);
      auto k = poisoned_bytes(kRows * kKv * head_dim, dtype);
      auto v = poisoned_bytes(kRows * kKv * head_dim, dtype);
      RotaryHeadsArgs args{.qkv = qkv.bytes.on_gpu(dtype, {kRows, heads, head_dim}),
                           .q = q.on_gpu(dtype, {kRows, kQ, head_dim}),
                           .k = k.on_gpu(dtype, {kRows, kKv, head_dim}),
                           .v = v.on_gpu(dtype, {kRows, kKv, head_dim}),
                           .cos = cos.on_gpu(DType::kF32, {kRows, half}),
                           .sin = sin.on_gpu(DType::kF32, {kRows, half}),
                           .layout = layout};
      kernels_.rotary_heads(args, {});
      Doubles expected_q;
      Doubles expected_v;
      for (std::int64_t row = 0; row < kRows; ++row) {
        for (std::int64_t head = 0; head < heads; ++head) {
          const auto* from = qkv.host.data() + (row * heads + head) * head_dim;
          Doubles turned(from, from + head_dim);
          for (std::int64_t i = 0; i < half && head < kQ + kKv; ++i) {
            const bool split = layout == RotaryLayout::kHalfSplit;
            const auto a = static_cast<std::size_t>(split ? i : 2 * i);
            const auto b = static_cast<std::size_t>(split ? i + half : 2 * i + 1);
            const double angle = angles.host[static_cast<std::size_t>(row * half + i)];
            turned[a] = from[a] * std::cos(angle) - from[b] * std::sin(angle);
            turned[b] = from[a] * std::sin(angle) + from[b] * std::cos(angle);
          }
          if (head < kQ) expected_q.insert(expected_q.end(), turned.begin(), turned.end());
          if (head >= kQ + kKv) expected_v.insert(expected_v.end(), turned.begin(), turned.end());
        }
      }
      SCOPED_TRACE(testing::Message() << dtype << " head_dim " << head_dim << " half " << half);
      EXPECT_LT(error(decode(q.from_gpu(), dtype), expected_q), bound_of(dtype));
      EXPECT_EQ(error(decode(v.from_gpu(), dtype), expected_v), 0.0);
      // Turned back, everything is as it was but for two roundings.
      auto joined = poisoned_bytes(kRows * heads * head_dim, dtype);
      args.qkv = joined.on_gpu(dtype, {kRows, heads, head_dim});
      args.joins = true;
      kernels_.rotary_heads(args, {});
      const Doubles original(qkv.host.begin(), qkv.host.end());
      EXPECT_LT(error(decode(joined.from_gpu(), dtype), original), 2 * bound_of(dtype));
    }
  }
}

TEST_F(TrainingCuda, GatedMlpGradient) {
  for (const DType dtype : kSixteenBits) {
    for (const std::int64_t dim : {8, 1408, 1537}) {
      const std::int64_t rows = 5;
      auto gate_up = random_rounded(rows * 2 * dim, dtype, 6.0F);
      auto d_out = random_rounded(rows * dim, dtype);
      auto found = poisoned_bytes(rows * 2 * dim, dtype);
      kernels_.gated_mlp_backward({.gate_up = gate_up.bytes.on_gpu(dtype, {rows, 2 * dim}),
                                   .d_out = d_out.bytes.on_gpu(dtype, {rows, dim}),
                                   .d_gate_up = found.on_gpu(dtype, {rows, 2 * dim})},
                                  {});
      Doubles expected(static_cast<std::size_t>(rows * 2 * dim));
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < dim; ++i) {
          const auto gate = static_cast<std::size_t>(r * 2 * dim + i);
          const auto up = gate + static_cast<std::size_t>(dim);
          const double g = gate_up.host[gate];
          const double d = d_out.host[static_cast<std::size_t>(r * dim + i)];
          const double sigmoid = 1 / (1 + std::exp(-g));
          expected[gate] = d * gate_up.host[up] * sigmoid * (1 + g * (1 - sigmoid));
          expected[up] = d * g * sigmoid;
        }
      }
      EXPECT_LT(error(decode(found.from_gpu(), dtype), expected), bound_of(dtype)) << dim;
    }
  }
}

TEST_F(TrainingCuda, CrossEntropyAndItsGradient) {
  for (const DType dtype : kSixteenBits) {
    for (const std::int64_t vocab : {1, 8, 50, 2048, 5001, 49152}) {
      const std::int64_t rows = 7;
      auto logits = random_rounded(rows * vocab, dtype, 8.0F);
      std::vector<std::int64_t> wanted;
      for (std::int64_t r = 0; r < rows; ++r) {
        wanted.push_back(
            static_cast<std::int64_t>(random_.next_below(static_cast<std::uint64_t>(vocab))));
      }
      Twin<std::int64_t> targets(wanted);
      Twin<float> weights(std::vector<float>{1.0F, 0.5F, 2.0F, 0.1F, 1.0F, 3.0F, 0.25F});
      auto losses = poisoned_twin(rows);
      kernels_.cross_entropy({.logits = logits.bytes.on_gpu(dtype, {rows, vocab}),
                              .targets = targets.on_gpu(DType::kI64, {rows}),
                              .weights = weights.on_gpu(DType::kF32, {rows}),
                              .losses = losses.on_gpu(DType::kF32, {rows})},
                             {});
      Doubles expected_losses;
      Doubles expected;
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto row = static_cast<std::size_t>(r);
        const float* of_row = logits.host.data() + r * vocab;
        double sum = 0;
        for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(double{of_row[i]});
        expected_losses.push_back(weights.host[row] * (std::log(sum) - of_row[wanted[row]]));
        for (std::int64_t i = 0; i < vocab; ++i) {
          const double probability = std::exp(double{of_row[i]}) / sum;
          expected.push_back(weights.host[row] * (probability - (i == wanted[row] ? 1 : 0)));
        }
      }
      SCOPED_TRACE(testing::Message() << dtype << " vocab " << vocab);
      const std::vector<float> found = decode(logits.bytes.from_gpu(), dtype);
      if (vocab == 1) {
        EXPECT_EQ(found, std::vector<float>(static_cast<std::size_t>(rows)));
        continue;
      }
      EXPECT_LT(error(losses.from_gpu(), expected_losses), 1e-5);
      EXPECT_LT(error(found, expected), bound_of(dtype));
    }
  }
}

}  // namespace
}  // namespace perpend
