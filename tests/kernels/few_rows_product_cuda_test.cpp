// Products of few rows on a GPU against f64, and launches that overlap against launches that wait.
// Skips on a machine without a GPU.

#include <cmath>

#include "perpend/core/thread_pool.h"
#include "tests/kernels/cuda_twin.h"

namespace perpend {
namespace {

class FewRowsProductCuda : public CudaTest {
 protected:
  std::vector<float> random_values(std::int64_t count, DType dtype) {
    return decode(encode(random_twin(count, 1.0F).host, dtype), dtype);
  }

  const FusedTable& gpu_ = cuda_kernels().fused;
};

struct Size {
  std::int64_t outputs, inputs;
};

// Of the same rows, whatever stands beside the first.
TEST_F(FewRowsProductCuda, EqualsF64) {
  for (const DType dtype : kSixteenBits) {
    for (const Size size :
         {Size{1, 8}, {7, 64}, {33, 576}, {2049, 1536}, {4096, 264}, {17000, 72}}) {
      const auto x = random_values(4 * size.inputs, dtype);
      const auto w = random_values(size.outputs * size.inputs, dtype);
      const auto bias = random_values(size.outputs, dtype);
      Twin<std::byte> x_twin(encode(x, dtype));
      Twin<std::byte> w_twin(encode(w, dtype));
      Twin<std::byte> bias_twin(encode(bias, dtype));
      std::vector<float> alone;
      for (const auto& [rows, accumulate] : {std::pair{1, false},
                                             {1, true},
                                             {2, false},
                                             {2, true},
                                             {3, false},
                                             {4, false},
                                             {4, true}}) {
        auto out = random_twin(rows * size.outputs);
        if (!accumulate) std::fill(out.host.begin(), out.host.end(), 0.0F);
        gpu_.few_rows_product({x_twin.on_gpu(dtype, {rows, size.inputs}),
                               w_twin.on_gpu(dtype, {size.outputs, size.inputs}),
                               out.on_gpu(DType::kF32, {rows, size.outputs}), accumulate,
                               bias_twin.on_gpu(dtype, {size.outputs})},
                              {});
        const std::vector<float> found = out.from_gpu();
        for (std::int64_t at = 0; at < rows * size.outputs; ++at) {
          double exact = static_cast<double>(out.host[static_cast<std::size_t>(at)]) +
                         bias[static_cast<std::size_t>(at % size.outputs)];
          double scale = 1;
          for (std::int64_t i = 0; i < size.inputs; ++i) {
            const double term =
                static_cast<double>(
                    w[static_cast<std::size_t>(at % size.outputs * size.inputs + i)]) *
                x[static_cast<std::size_t>(at / size.outputs * size.inputs + i)];
            exact += term;
            scale += std::abs(term);
          }
          ASSERT_NEAR(found[static_cast<std::size_t>(at)], exact, 1e-6 * scale)
              << size.outputs << " x " << size.inputs << ", " << rows << " rows, at " << at;
        }
        if (accumulate) continue;
        const std::vector<float> first(found.begin(), found.begin() + size.outputs);
        if (alone.empty()) alone = first;
        EXPECT_EQ(first, alone) << "rows beside a row change its bits";
      }
    }
  }
  auto wide = random_twin(64);
  const TensorView f32 = wide.on_gpu(DType::kF32, {2, 8});
  EXPECT_THROW(gpu_.few_rows_product({f32, f32, f32}, {}), InvalidArgument);
}

TEST_F(FewRowsProductCuda, RoundsTo16Bits) {
  for (const DType dtype : kSixteenBits) {
    for (const std::int64_t rows : {1, 3}) {
      Twin<std::byte> x(encode(random_values(rows * 520, dtype), dtype));
      Twin<std::byte> w(encode(random_values(300 * 520, dtype), dtype));
      auto exact = poisoned_twin(rows * 300);
      Twin<std::byte> rounded(encode(exact.host, dtype));
      for (const auto& out :
           {exact.on_gpu(DType::kF32, {rows, 300}), rounded.on_gpu(dtype, {rows, 300})}) {
        gpu_.few_rows_product(
            {x.on_gpu(dtype, {rows, 520}), w.on_gpu(dtype, {300, 520}), out, false}, {});
      }
      EXPECT_EQ(rounded.from_gpu(), encode(exact.from_gpu(), dtype));
    }
  }
}

// The kernels of an MLP, each of which is made ready while the one before runs: what they write is
// read by the next, and their memory is written again by the next turn.
TEST_F(FewRowsProductCuda, LaunchesThatOverlapHaveTheBitsOfLaunchesThatWait) {
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreate(&stream), "test");
  const std::int64_t dim = 512;
  const std::int64_t ffn_dim = 1536;
  const DType dtype = DType::kBF16;
  for (const std::int64_t rows : {1, 2, 4}) {
    auto x = random_twin(rows * dim);
    auto norm = random_twin(dim, 0.1F);
    Twin<std::byte> gate_up(encode(random_values(2 * ffn_dim * dim, dtype), dtype));
    Twin<std::byte> down(encode(random_values(dim * ffn_dim, dtype), dtype));
    Twin<std::byte> normed(std::vector<std::byte>(static_cast<std::size_t>(2 * rows * dim)));
    Twin<std::byte> hidden(std::vector<std::byte>(static_cast<std::size_t>(4 * rows * ffn_dim)));
    Twin<std::byte> active(std::vector<std::byte>(static_cast<std::size_t>(2 * rows * ffn_dim)));
    const Stream on{nullptr, stream};
    const auto layer = [&](const TensorView& sum, auto&& behind_each) {
      const TensorView normed_view = normed.on_gpu(dtype, {rows, dim});
      const TensorView hidden_view = hidden.on_gpu(dtype, {rows, 2 * ffn_dim});
      const TensorView active_view = active.on_gpu(dtype, {rows, ffn_dim});
      gpu_.rms_norm({sum, {}, norm.on_gpu(DType::kF32, {dim}), normed_view}, on);
      behind_each();
      gpu_.few_rows_product(
          {normed_view, gate_up.on_gpu(dtype, {2 * ffn_dim, dim}), hidden_view, false}, on);
      behind_each();
      gpu_.gated_mlp({hidden_view, active_view, Activation::kSilu}, on);
      behind_each();
      gpu_.few_rows_product({active_view, down.on_gpu(dtype, {dim, ffn_dim}), sum, true}, on);
      behind_each();
    };
    constexpr int kLayers = 12;
    Twin<float> waited(x.host);
    for (int i = 0; i < kLayers; ++i) {
      layer(waited.on_gpu(DType::kF32, {rows, dim}),
            [&] { cuda_check(cudaStreamSynchronize(stream), "test"); });
    }
    Twin<float> overlapped(x.host);
    const auto graph = cuda_kernels().capture(kGpu, on, [&] {
      for (int i = 0; i < kLayers; ++i) layer(overlapped.on_gpu(DType::kF32, {rows, dim}), [] {});
    });
    graph->run(on);
    cuda_check(cudaStreamSynchronize(stream), "test");
    EXPECT_EQ(overlapped.from_gpu(), waited.from_gpu()) << rows << " rows";
  }
  cuda_check(cudaStreamDestroy(stream), "test");
}

}  // namespace
}  // namespace perpend
