// What Elastic-Cache decides by, on a GPU, against that of the CPU, which tests/kernels holds
// against formulas in f64. Skips on a machine without a GPU.

#include <numeric>
#include <span>

#include "perpend/core/thread_pool.h"
#include "tests/kernels/cuda_twin.h"
#include "tests/kernels/drift_case.h"

namespace perpend {
namespace {

// Copies of the arrays of a case that live as long as it does.
class OnGpu {
 public:
  template <class T>
  TensorView operator()(std::vector<T>& values, DType dtype, const Dims& shape) {
    const auto bytes = std::as_bytes(std::span(values));
    copies_.push_back(
        std::make_unique<Twin<std::byte>>(std::vector<std::byte>(bytes.begin(), bytes.end())));
    return copies_.back()->on_gpu(dtype, shape);
  }

 private:
  std::vector<std::unique_ptr<Twin<std::byte>>> copies_;
};

std::vector<float> from_gpu(const TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(num_elements(view.shape)));
  cuda_check(
      cudaMemcpy(values.data(), view.data, values.size() * sizeof(float), cudaMemcpyDeviceToHost),
      "test");
  return values;
}

class AttentionDriftCuda : public CudaTest {
 protected:
  static void expect_near(const std::vector<float>& host, const std::vector<float>& gpu) {
    for (std::size_t i = 0; i < host.size(); ++i) {
      ASSERT_NEAR(host[i], gpu[i], 2e-5F * (1 + std::abs(host[i]))) << "at " << i;
    }
  }

  ThreadPool pool_{2};
};

TEST_F(AttentionDriftCuda, EqualsTheCpu) {
  for (const DType dtype : kSixteenBits) {
    std::vector<DriftCase> cases = drift_cases(dtype);
    // The sizes of LLaDA-8B, whose canvas is no multiple of a part.
    DriftCase large{.layers = 3,
                    .canvas = 1512,
                    .num_q_heads = 32,
                    .num_kv_heads = 32,
                    .head_dim = 128,
                    .dtype = dtype,
                    .key_dtype = dtype};
    large.window.resize(16);
    std::iota(large.window.begin(), large.window.end(), 1000);
    large.tracked.clear();
    for (std::int32_t i = 0; i < 11; ++i) large.tracked.push_back(90 * i + 7);
    large.changed = large.window;
    large.changed.insert(large.changed.end(), large.tracked.begin(), large.tracked.end());
    cases.push_back(large);
    for (const DriftCase& c : cases) {
      DriftOperands operands(c, 11);
      OnGpu on_gpu;
      const AttentionDriftArgs args = operands.args_on(on_gpu);
      cuda_kernels().fused.attention_drift(args, {});
      const std::vector<float> attended = from_gpu(args.attended);
      const std::vector<float> similarity = from_gpu(args.similarity);
      cuda_kernels().fused.attention_drift(args, {});
      EXPECT_EQ(from_gpu(args.attended), attended) << "another run has other bits";
      EXPECT_EQ(from_gpu(args.similarity), similarity) << "another run has other bits";
      cpu_kernels().fused.attention_drift(operands.args(), {&pool_});
      expect_near(operands.attended, attended);
      expect_near(operands.similarity, similarity);
    }
  }
}

TEST_F(AttentionDriftCuda, WhatItDoesNotTakeIsRefused) {
  const DriftCase f32{.dtype = DType::kF32, .key_dtype = DType::kF32};
  const DriftCase narrow{.head_dim = 20, .dtype = DType::kBF16, .key_dtype = DType::kBF16};
  const DriftCase small_pages{.page_size = 16, .dtype = DType::kBF16, .key_dtype = DType::kBF16};
  for (const DriftCase& c : {f32, narrow, small_pages}) {
    DriftOperands operands(c, 12);
    OnGpu on_gpu;
    EXPECT_THROW(cuda_kernels().fused.attention_drift(operands.args_on(on_gpu), {}), Unsupported);
  }
}

}  // namespace
}  // namespace perpend
