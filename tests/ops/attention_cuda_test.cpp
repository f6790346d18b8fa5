// perpend::attention() on tensors of a GPU. Skips where LibTorch finds none, and where the CUDA
// kernels are not built.

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "perpend/kernels/table.h"
#include "perpend/ops/attention.h"
#include "tests/ops/attention_reference.h"

namespace perpend {
namespace {

using torch::Tensor;

class OpsAttentionCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_kernels().attention.forward == nullptr) GTEST_SKIP() << "no CUDA kernels";
    // LibTorch's half for CUDA registers itself once it is loaded; nothing of ours links to it.
    static void* const library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr || !torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
    torch::manual_seed(0);
  }

  static Tensor random(std::vector<std::int64_t> shape, int device = 0,
                       torch::ScalarType type = torch::kBFloat16) {
    return torch::randn(shape, torch::dtype(type).device(torch::kCUDA, device));
  }
  static Tensor visible(const Mask& mask, std::int64_t length, const Tensor& like) {
    return dense(mask, length, length, 0).to(like.device());
  }
};

TEST_F(OpsAttentionCuda, ValuesAndGradientsAreThoseOfFloat64) {
  const Mask mask = parse_mask("causal & window(50)");
  for (const auto type : {torch::kBFloat16, torch::kFloat16}) {
    const Tensor tokens = random({2, 300, 8, 64}, 0, type);
    std::vector<Tensor> inputs;
    for (const Tensor& part : tokens.transpose(1, 2).split_with_sizes({4, 2, 2}, 1)) {
      inputs.push_back(part.detach().requires_grad_());
    }
    const auto loss = [](const AttentionOutput& output) {
      return output.o.to(torch::kFloat64).square().sum() + output.lse.to(torch::kFloat64).sum();
    };
    const AttentionOutput found = attention(inputs[0], inputs[1], inputs[2], mask);
    const AttentionOutput expected =
        reference(inputs[0], inputs[1], inputs[2], visible(mask, 300, tokens));
    EXPECT_EQ(found.o.scalar_type(), type);
    EXPECT_LT(relative_error(found.o, expected.o), 5e-3);
    EXPECT_LT(relative_error(found.lse, expected.lse), 2e-5);
    const auto gradients = torch::autograd::grad({loss(found)}, inputs);
    const auto expected_gradients = torch::autograd::grad({loss(expected)}, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_LT(relative_error(gradients[i], expected_gradients[i]), 1e-2) << "input " << i;
    }
  }
}

TEST_F(OpsAttentionCuda, RunsOnTheCurrentStream) {
  const c10::impl::VirtualGuardImpl devices(c10::DeviceType::CUDA);
  const Tensor seed = random({4096, 4096}) * 0.02;
  const Tensor expected = [&] {
    Tensor x = seed;
    for (int i = 0; i < 20; ++i) x = x.matmul(seed);
    const Tensor q = x.view({1, 32, 4096, 128});
    return attention(q, q, q, Mask::causal()).o;
  }();
  torch::cuda::synchronize();
  const c10::StreamGuard guard(devices.getNewStream(seed.device()));
  Tensor x = seed;
  for (int i = 0; i < 20; ++i) x = x.matmul(seed);  // long behind what the host has asked for
  const Tensor q = x.view({1, 32, 4096, 128});
  const Tensor found = attention(q, q, q, Mask::causal()).o;
  EXPECT_TRUE(torch::equal(found, expected));
}

TEST_F(OpsAttentionCuda, IndptrsMayBeOnEitherSide) {
  const Tensor q = random({70, 4, 64});
  const Tensor indptr = torch::tensor({0, 3, 3, 70}, torch::kInt32);
  const Tensor on_gpu = indptr.to(q.device());
  const AttentionOutput host =
      attention(q, q, q, Mask::causal(), {.q_indptr = indptr, .kv_indptr = indptr});
  const AttentionOutput device =
      attention(q, q, q, Mask::causal(), {.q_indptr = on_gpu, .kv_indptr = on_gpu});
  EXPECT_TRUE(torch::equal(host.o, device.o));
  EXPECT_TRUE(torch::equal(host.lse, device.lse));
}

TEST_F(OpsAttentionCuda, TakesSlopesOfAnyStride) {
  const Tensor q = random({1, 4, 70, 64});
  const Tensor slopes = torch::rand({8}, torch::dtype(torch::kFloat32).device(q.device()));
  const Tensor some = slopes.slice(0, 0, 8, 2);
  const Tensor found = attention(q, q, q, Mask::causal(), {.alibi_slopes = some}).o;
  const Tensor expected = attention(q, q, q, Mask::causal(), {.alibi_slopes = some.contiguous()}).o;
  EXPECT_TRUE(torch::equal(found, expected));
}

TEST_F(OpsAttentionCuda, ErrorsNameWhatHasNoKernel) {
  using testing::HasSubstr;
  const Tensor q = random({1, 4, 70, 64});
  const Tensor wide = q.to(torch::kFloat32);
  EXPECT_THAT(error_of([&] { attention(wide, wide, wide, Mask::causal()); }),
              HasSubstr("q f32, k and v f32, head_dim 64 is not built for cuda"));
  EXPECT_THAT(error_of([&] { attention(q, q.cpu(), q, Mask::causal()); }),
              HasSubstr("k is on cpu, q on cuda:0"));
}

TEST_F(OpsAttentionCuda, RunsOnTheDeviceOfItsOperands) {
  if (torch::cuda::device_count() < 2) GTEST_SKIP() << "one GPU only";
  const Tensor there = random({1, 4, 300, 64}, 1).requires_grad_();
  const Tensor here = there.detach().to(torch::Device(torch::kCUDA, 0)).requires_grad_();
  const AttentionOutput found = attention(there, there, there, Mask::causal());
  const AttentionOutput expected = attention(here, here, here, Mask::causal());
  EXPECT_EQ(found.o.device(), there.device());
  EXPECT_TRUE(torch::equal(found.o.cpu(), expected.o.cpu()));
  const auto gradient = torch::autograd::grad({found.o.sum()}, {there});
  EXPECT_TRUE(
      torch::equal(gradient[0].cpu(), torch::autograd::grad({expected.o.sum()}, {here})[0].cpu()));
}

}  // namespace
}  // namespace perpend
