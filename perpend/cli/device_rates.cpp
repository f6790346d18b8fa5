#include "perpend/cli/device_rates.h"

#include <chrono>

#include <torch/types.h>

#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// Seconds of one call of `work`, of many that follow each other.
double seconds_of(const Context& context, const std::function<void()>& work) {
  constexpr int kCalls = 20;
  work();
  return ms_of(context,
               [&] {
                 for (int i = 0; i < kCalls; ++i) work();
               }) *
         1e-3 / kCalls;
}

}  // namespace

DeviceRates measure_device(const Context& context) {
  if (!context.torch_stream) return {};
  const DeviceScope scope(context);
  const auto on_device = torch::dtype(torch::kBFloat16).device(torch_device(context.device));
  constexpr std::int64_t kBytes = std::int64_t{1} << 30;
  const torch::Tensor from = torch::ones({kBytes / 2}, on_device);
  torch::Tensor to = torch::empty_like(from);
  constexpr std::int64_t kSize = 8192;
  const torch::Tensor a = torch::randn({kSize, kSize}, on_device);
  const torch::Tensor b = torch::randn({kSize, kSize}, on_device);
  torch::Tensor product = torch::empty({kSize, kSize}, on_device);
  const double copied = 2.0 * kBytes / seconds_of(context, [&] { to.copy_(from); });
  const double seconds = seconds_of(context, [&] { at::mm_out(product, a, b); });
  return {.copy_bytes_per_s = copied, .product_flops_per_s = 2.0 * kSize * kSize * kSize / seconds};
}

double ms_of(const Context& context, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto wait = [&] {
    if (context.torch_stream) context.torch_stream->synchronize();
  };
  wait();
  const auto start = Clock::now();
  work();
  wait();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace perpend
