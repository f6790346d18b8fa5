// The fused CUDA kernels against those of the CPU, which tests/parity holds against f64 formulas.
// Skips on a machine without a GPU.

#include <cmath>

#include "perpend/core/thread_pool.h"
#include "tests/kernels/cuda_twin.h"

namespace perpend {
namespace {

class FusedCuda : public CudaTest {
 protected:
  static void expect_near(const std::vector<float>& host, const std::vector<float>& gpu,
                          float bound) {
    for (std::size_t i = 0; i < host.size(); ++i) {
      ASSERT_NEAR(host[i], gpu[i], bound * (1 + std::abs(host[i]))) << "at " << i;
    }
  }

  const FusedTable& cpu_ = cpu_kernels().fused;
  const FusedTable& gpu_ = cuda_kernels().fused;
  ThreadPool pool_{2};
};

TEST_F(FusedCuda, RmsNormWithAndWithoutResidual) {
  for (std::int64_t dim : {1, 33, 576, 5000}) {
    for (bool with_residual : {false, true}) {
      const Dims shape = {5, dim};
      auto x = random_twin(5 * dim);
      auto residual = random_twin(5 * dim);
      auto weight = random_twin(dim);
      auto out = poisoned_twin(5 * dim);
      RmsNormArgs args{x.on_cpu(DType::kF32, shape),
                       {},
                       weight.on_cpu(DType::kF32, {dim}),
                       out.on_cpu(DType::kF32, shape)};
      if (with_residual) args.residual = residual.on_cpu(DType::kF32, shape);
      cpu_.rms_norm(args, {&pool_});
      args = {x.on_gpu(DType::kF32, shape),
              {},
              weight.on_gpu(DType::kF32, {dim}),
              out.on_gpu(DType::kF32, shape)};
      if (with_residual) args.residual = residual.on_gpu(DType::kF32, shape);
      gpu_.rms_norm(args, {});
      expect_near(out.host, out.from_gpu(), 2e-6F);
      expect_near(x.host, x.from_gpu(), 0.0F);
    }
  }
}

TEST_F(FusedCuda, RmsNormKeepsRows) {
  const std::int64_t dim = 576;
  auto x = random_twin(3 * dim);
  auto weight = random_twin(dim);
  auto out = poisoned_twin(3 * dim);
  auto kept = random_twin(5 * dim);
  Twin<std::int64_t> places({4, 0, 3});
  RmsNormArgs args{x.on_cpu(DType::kF32, {3, dim}),
                   {},
                   weight.on_cpu(DType::kF32, {dim}),
                   out.on_cpu(DType::kF32, {3, dim})};
  args.kept = kept.on_cpu(DType::kF32, {5, dim});
  args.places = places.on_cpu(DType::kI64, {3});
  const std::vector<float> before = kept.host;
  cpu_.rms_norm(args, {&pool_});
  EXPECT_TRUE(std::equal(x.host.begin(), x.host.begin() + dim, kept.host.begin() + 4 * dim));
  EXPECT_TRUE(std::equal(before.begin() + dim, before.begin() + 3 * dim, kept.host.begin() + dim));
  args = {x.on_gpu(DType::kF32, {3, dim}),
          {},
          weight.on_gpu(DType::kF32, {dim}),
          out.on_gpu(DType::kF32, {3, dim})};
  args.kept = kept.on_gpu(DType::kF32, {5, dim});
  args.places = places.on_gpu(DType::kI64, {3});
  gpu_.rms_norm(args, {});
  expect_near(out.host, out.from_gpu(), 2e-6F);
  EXPECT_EQ(kept.host, kept.from_gpu());
}

TEST_F(FusedCuda, RmsNormRoundsTo16Bits) {
  for (const DType dtype : kSixteenBits) {
    for (const std::int64_t dim : {1, 33, 576, 5000}) {
      auto x = random_twin(5 * dim);
      auto weight = random_twin(dim);
      auto exact = poisoned_twin(5 * dim);
      Twin<std::byte> out(encode(exact.host, dtype));
      cpu_.rms_norm({x.on_cpu(DType::kF32, {5, dim}),
                     {},
                     weight.on_cpu(DType::kF32, {dim}),
                     exact.on_cpu(DType::kF32, {5, dim})},
                    {&pool_});
      gpu_.rms_norm({x.on_gpu(DType::kF32, {5, dim}),
                     {},
                     weight.on_gpu(DType::kF32, {dim}),
                     out.on_gpu(dtype, {5, dim})},
                    {});
      expect_near(exact.host, decode(out.from_gpu(), dtype), rounding_of(dtype));
    }
  }
}

TEST_F(FusedCuda, GatedMlpOf16Bits) {
  for (const DType dtype : kSixteenBits) {
    const std::int64_t dim = 1537;
    auto gate_up = random_twin(3 * 2 * dim, 20.0F);
    Twin<std::byte> rounded(encode(gate_up.host, dtype));
    gate_up.host = decode(rounded.host, dtype);
    auto exact = poisoned_twin(3 * dim);
    Twin<std::byte> out(encode(exact.host, dtype));
    cpu_.gated_mlp({gate_up.on_cpu(DType::kF32, {3, 2 * dim}), exact.on_cpu(DType::kF32, {3, dim}),
                    Activation::kSilu},
                   {&pool_});
    gpu_.gated_mlp(
        {rounded.on_gpu(dtype, {3, 2 * dim}), out.on_gpu(dtype, {3, dim}), Activation::kSilu}, {});
    expect_near(exact.host, decode(out.from_gpu(), dtype), rounding_of(dtype));
  }
}

TEST_F(FusedCuda, GatedMlpOfEveryActivation) {
  for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    const std::int64_t dim = 1537;
    auto gate_up = random_twin(3 * 2 * dim, 20.0F);
    auto out = poisoned_twin(3 * dim);
    cpu_.gated_mlp(
        {gate_up.on_cpu(DType::kF32, {3, 2 * dim}), out.on_cpu(DType::kF32, {3, dim}), activation},
        {&pool_});
    gpu_.gated_mlp(
        {gate_up.on_gpu(DType::kF32, {3, 2 * dim}), out.on_gpu(DType::kF32, {3, dim}), activation},
        {});
    expect_near(out.host, out.from_gpu(), 2e-5F);
  }
}

TEST_F(FusedCuda, VocabularySummaries) {
  for (std::int64_t vocab_size : {1, 3, 1023, 1025, 49152}) {
    auto logits = random_twin(2 * vocab_size, 10.0F);
    // Equal maxima: the first counts.
    if (vocab_size > 1000) logits.host[600] = logits.host[9] = 30.0F;
    if (vocab_size == 3) logits.host[0] = logits.host[1] = logits.host[2] = -INFINITY;
    Twin<float> uploaded(logits.host);
    Twin<VocabularySummary> summaries(std::vector<VocabularySummary>(2));
    cpu_.vocabulary({uploaded.on_cpu(DType::kF32, {2, vocab_size}), summaries.host}, {&pool_});
    gpu_.vocabulary({uploaded.on_gpu(DType::kF32, {2, vocab_size}), {summaries.gpu_data(), 2}}, {});
    const auto found = summaries.from_gpu();
    for (std::size_t row = 0; row < 2; ++row) {
      EXPECT_EQ(found[row].argmax, summaries.host[row].argmax);
      EXPECT_EQ(found[row].max, summaries.host[row].max);
      if (std::isinf(summaries.host[row].logsumexp)) {
        EXPECT_EQ(found[row].logsumexp, summaries.host[row].logsumexp);
      } else {
        EXPECT_NEAR(found[row].logsumexp, summaries.host[row].logsumexp, 1e-5);
      }
    }
  }
}

TEST_F(FusedCuda, RotaryTurnsAndFillsTheCache) {
  const std::int64_t rows = 5;
  const std::int64_t dim = 170;  // 148 turn, 22 are copied
  const std::int64_t half = 74;
  for (RotaryLayout layout : {RotaryLayout::kHalfSplit, RotaryLayout::kInterleaved}) {
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      auto q = random_twin(rows * 4 * dim);
      auto k = random_twin(rows * 2 * dim);
      auto v = random_twin(rows * 2 * dim);
      auto cos = random_twin(10 * half, 1.0F);
      auto sin = random_twin(10 * half, 1.0F);
      Twin<std::int32_t> positions({3, 0, 9, 4, 1});
      Twin<std::int64_t> slots({7, 0, 3, 2, 5});
      const std::vector<std::byte> zeros(static_cast<std::size_t>(8 * 2 * dim) * size_of(dtype));
      Twin<std::byte> k_pages(zeros);
      Twin<std::byte> v_pages(zeros);
      const auto args_on = [&](auto view) {
        return RotaryCacheArgs{
            view(q, DType::kF32, {rows, 4, dim}), view(k, DType::kF32, {rows, 2, dim}),
            view(v, DType::kF32, {rows, 2, dim}), view(positions, DType::kI32, {rows}),
            view(cos, DType::kF32, {10, half}),   view(sin, DType::kF32, {10, half}),
            view(k_pages, dtype, {2, 4, 2, dim}), view(v_pages, dtype, {2, 4, 2, dim}),
            view(slots, DType::kI64, {rows}),     layout};
      };
      cpu_.rotary_cache(args_on([](auto& twin, DType type, const Dims& shape) {
                          return twin.on_cpu(type, shape);
                        }),
                        {&pool_});
      gpu_.rotary_cache(args_on([](auto& twin, DType type, const Dims& shape) {
                          return twin.on_gpu(type, shape);
                        }),
                        {});
      const float bound = dtype == DType::kF32 ? 1e-6F : dtype == DType::kF16 ? 1e-3F : 8e-3F;
      expect_near(q.host, q.from_gpu(), 1e-6F);
      expect_near(decode(k_pages.host, dtype), decode(k_pages.from_gpu(), dtype), bound);
      expect_near(decode(v_pages.host, dtype), decode(v_pages.from_gpu(), dtype), 0.0F);
    }
  }
}

TEST_F(FusedCuda, RotaryTurnsQueriesAlone) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    auto q = random_twin(6 * 3 * 64);
    Twin<std::byte> stored(encode(q.host, dtype));
    q.host = decode(stored.host, dtype);
    auto cos = random_twin(10 * 32, 1.0F);
    auto sin = random_twin(10 * 32, 1.0F);
    Twin<std::int32_t> positions({3, 0, 9, 4, 1, 1});
    const auto args_of = [&](TensorView heads, auto view) {
      RotaryCacheArgs args;
      args.q = heads;
      args.positions = view(positions, DType::kI32, {6});
      args.cos = view(cos, DType::kF32, {10, 32});
      args.sin = view(sin, DType::kF32, {10, 32});
      return args;
    };
    cpu_.rotary_cache(
        args_of(q.on_cpu(DType::kF32, {6, 3, 64}),
                [](auto& twin, DType type, const Dims& shape) { return twin.on_cpu(type, shape); }),
        {&pool_});
    gpu_.rotary_cache(
        args_of(stored.on_gpu(dtype, {6, 3, 64}),
                [](auto& twin, DType type, const Dims& shape) { return twin.on_gpu(type, shape); }),
        {});
    expect_near(q.host, decode(stored.from_gpu(), dtype),
                dtype == DType::kF32 ? 1e-6F : 2 * rounding_of(dtype));
  }
}

TEST_F(FusedCuda, BlockScoresOfEveryType) {
  const std::int64_t num_keys = 2500;
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto heads = [&](std::int64_t count) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(count) * size_of(dtype));
      for (std::int64_t i = 0; i < count; ++i) {
        const float value = 4 * random_.next_float() - 2;
        const std::uint16_t bits = dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
        std::byte* to = bytes.data() + static_cast<std::size_t>(i) * size_of(dtype);
        if (dtype == DType::kF32) {
          std::memcpy(to, &value, 4);
        } else {
          std::memcpy(to, &bits, 2);
        }
      }
      return Twin<std::byte>(std::move(bytes));
    };
    auto q = heads(2 * 8 * 80);
    auto k = heads(num_keys * 2 * 80);
    Twin<std::int32_t> indptr({0, 1, 1, 700, 2499, 2500});
    auto alpha = poisoned_twin(2 * 8 * num_keys);
    auto scores = poisoned_twin(5);
    const auto args_on = [&](auto view) {
      return BlockScoresArgs{.q = view(q, dtype, {2, 8, 80}),
                             .k = view(k, dtype, {num_keys, 2, 80}),
                             .indptr = view(indptr, DType::kI32, {6}),
                             .alpha = view(alpha, DType::kF32, {2, 8, num_keys}),
                             .scores = view(scores, DType::kF32, {5})};
    };
    cpu_.block_scores(
        args_on([](auto& twin, DType type, const Dims& shape) { return twin.on_cpu(type, shape); }),
        {&pool_});
    gpu_.block_scores(
        args_on([](auto& twin, DType type, const Dims& shape) { return twin.on_gpu(type, shape); }),
        {});
    const std::vector<float> found = alpha.from_gpu();
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_NEAR(found[i], alpha.host[i], 1e-4F * alpha.host[i] + 1e-9F) << dtype << " " << i;
    }
    expect_near(scores.host, scores.from_gpu(), 1e-5F);
  }
}

TEST_F(FusedCuda, RotaryOf16Bits) {
  const std::int64_t rows = 5;
  const std::int64_t dim = 64;
  for (const DType dtype : kSixteenBits) {
    // q, k and v lie in one row, as a product of all three leaves them.
    const std::int64_t heads = 4 + 2 + 2;
    auto qkv = random_twin(rows * heads * dim);
    Twin<std::byte> rounded(encode(qkv.host, dtype));
    qkv.host = decode(rounded.host, dtype);
    auto cos = random_twin(10 * dim / 2, 1.0F);
    auto sin = random_twin(10 * dim / 2, 1.0F);
    Twin<std::int32_t> positions({3, 0, 9, 4, 1});
    Twin<std::int64_t> slots({7, 0, 3, 2, 5});
    Twin<std::byte> k_pages(
        std::vector<std::byte>(static_cast<std::size_t>(8 * 2 * dim) * size_of(dtype)));
    Twin<std::byte> v_pages(k_pages.host);
    auto kept = random_twin(7 * 4 * dim);
    Twin<std::byte> kept_rounded(encode(kept.host, dtype));
    kept.host = decode(kept_rounded.host, dtype);
    Twin<std::int64_t> places({6, 2, 0, 1, 4});
    const auto args_of = [&](TensorView all, const TensorView& kept_rows, auto view) {
      const auto part = [&](std::int64_t first, std::int64_t count) {
        TensorView some = all;
        some.data =
            all.as<std::byte>() + static_cast<std::size_t>(first * dim) * size_of(all.dtype);
        some.shape[1] = count;
        return some;
      };
      return RotaryCacheArgs{part(0, 4),
                             part(4, 2),
                             part(6, 2),
                             view(positions, DType::kI32, {rows}),
                             view(cos, DType::kF32, {10, dim / 2}),
                             view(sin, DType::kF32, {10, dim / 2}),
                             view(k_pages, dtype, {2, 4, 2, dim}),
                             view(v_pages, dtype, {2, 4, 2, dim}),
                             view(slots, DType::kI64, {rows}),
                             RotaryLayout::kHalfSplit,
                             kept_rows,
                             view(places, DType::kI64, {rows})};
    };
    cpu_.rotary_cache(
        args_of(qkv.on_cpu(DType::kF32, {rows, heads, dim}), kept.on_cpu(DType::kF32, {7, 4, dim}),
                [](auto& twin, DType type, const Dims& shape) { return twin.on_cpu(type, shape); }),
        {&pool_});
    gpu_.rotary_cache(
        args_of(rounded.on_gpu(dtype, {rows, heads, dim}), kept_rounded.on_gpu(dtype, {7, 4, dim}),
                [](auto& twin, DType type, const Dims& shape) { return twin.on_gpu(type, shape); }),
        {});
    expect_near(kept.host, decode(kept_rounded.from_gpu(), dtype), 2 * rounding_of(dtype));
    // k and v of the product itself stay as they were.
    expect_near(qkv.host, decode(rounded.from_gpu(), dtype), 2 * rounding_of(dtype));
    expect_near(decode(k_pages.host, dtype), decode(k_pages.from_gpu(), dtype),
                2 * rounding_of(dtype));
    expect_near(decode(v_pages.host, dtype), decode(v_pages.from_gpu(), dtype), 0.0F);
  }
}

TEST_F(FusedCuda, ACapturedGraphRunsWhatWasLaunched) {
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreate(&stream), "test");
  auto x = random_twin(2 * 100);
  auto weight = random_twin(100);
  auto out = poisoned_twin(2 * 100);
  const RmsNormArgs args{x.on_gpu(DType::kF32, {2, 100}),
                         {},
                         weight.on_gpu(DType::kF32, {100}),
                         out.on_gpu(DType::kF32, {2, 100})};
  const Stream on{nullptr, stream};
  EXPECT_THROW(cuda_kernels().capture(kGpu, {}, [] {}), InvalidArgument);
  EXPECT_THROW(cuda_kernels().capture(kGpu, on, [] { throw InvalidArgument("in a capture"); }),
               InvalidArgument);
  const auto graph = cuda_kernels().capture(kGpu, on, [&] { gpu_.rms_norm(args, on); });
  EXPECT_TRUE(std::isnan(out.from_gpu()[0])) << "a capture runs nothing";
  graph->run(on);
  cuda_check(cudaStreamSynchronize(stream), "test");
  const auto captured = out.from_gpu();
  gpu_.rms_norm(args, on);
  cuda_check(cudaStreamSynchronize(stream), "test");
  EXPECT_EQ(captured, out.from_gpu());
  cuda_check(cudaStreamDestroy(stream), "test");
}

TEST_F(FusedCuda, RunsOnAStreamAndRepeatsItsBits) {
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreate(&stream), "test");
  auto x = random_twin(3 * 4096);
  auto weight = random_twin(4096);
  auto first = poisoned_twin(3 * 4096);
  auto second = poisoned_twin(3 * 4096);
  for (auto* out : {&first, &second}) {
    gpu_.rms_norm({x.on_gpu(DType::kF32, {3, 4096}),
                   {},
                   weight.on_gpu(DType::kF32, {4096}),
                   out->on_gpu(DType::kF32, {3, 4096})},
                  {nullptr, stream});
  }
  cuda_check(cudaStreamSynchronize(stream), "test");
  cuda_check(cudaStreamDestroy(stream), "test");
  EXPECT_EQ(first.from_gpu(), second.from_gpu());
}

// Needs no GPU: nothing is launched.
TEST(FusedCudaArguments, OperandsOnTheHostAreRefused) {
  std::vector<float> values(64);
  const auto view = [&](const Dims& shape) { return TensorView::dense(values.data(), shape); };
  const RmsNormArgs args{view({2, 8}), {}, view({8}), view({2, 8})};
  EXPECT_THROW(cuda_kernels().fused.rms_norm(args, {}), InvalidArgument);
  RmsNormArgs mixed = args;
  mixed.weight.device = kGpu;
  EXPECT_THROW(cpu_kernels().fused.rms_norm(mixed, {}), InvalidArgument);
}

TEST(FusedCudaArguments, WhatIsNotBuiltIsUnsupported) {
  const KernelTable& table = cuda_kernels();
  EXPECT_THROW(require(table.quantized.pack, "quantized product", table), Unsupported);
}

}  // namespace
}  // namespace perpend
