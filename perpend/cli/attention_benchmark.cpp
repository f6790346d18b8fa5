#include "perpend/cli/attention_benchmark.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "perpend/kernels/reference/attention_samples.h"
#include "perpend/kernels/table.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

constexpr int kSamples = 8;
constexpr std::int64_t kDenseTokens = 2048;
constexpr double kForwardFlops = 4;    // a live pair and value of a head: q k^T and p v
constexpr double kBackwardFlops = 10;  // five products of that size
constexpr std::size_t kCopyBytes = std::size_t{64} << 20U;

template <class Body>
double seconds_of(Body body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Body>
double median_ms(int reps, Body body) {
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(reps));
  for (int i = 0; i < reps; ++i) times.push_back(1e3 * seconds_of(body));
  return median(times);
}

void check_answer(const Workload& workload, const std::vector<Deviation>& deviations) {
  for (const Deviation& d : deviations) {
    if (!d.holds()) bug(concat("bench: ", workload.name, " gives a wrong answer: ", d));
  }
}

double tflops(double pairs, double flops, std::int64_t head_dim, double ms) {
  return pairs * flops * static_cast<double>(head_dim) / ms / 1e9;
}

}  // namespace

double median(std::vector<double> values) {
  check(!values.empty(), "bench: --reps must be at least 1");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double AttentionTimes::forward_tflops(std::int64_t head_dim) const {
  return tflops(live_pairs, kForwardFlops, head_dim, forward_ms);
}

std::optional<double> AttentionTimes::backward_tflops(std::int64_t head_dim) const {
  if (!backward_ms) return {};
  return tflops(live_pairs, kBackwardFlops, head_dim, *backward_ms);
}

AttentionCase attention_case(const Workload& workload, DType dtype) {
  AttentionCase c;
  c.shape = workload.shape;
  c.masks = {workload.mask};
  c.head_dim = workload.head_dim;
  c.q_dtype = c.kv_dtype = dtype;
  c.layout.head_major = true;
  c.d_lse = false;
  c.scratch = true;
  return c;
}

AttentionTimes time_attention(const Workload& workload, DType dtype, int reps,
                              ThreadPool& threads) {
  const AttentionCase c = attention_case(workload, dtype);
  AttentionCall call(c);
  AttentionTimes times;
  AttentionPlans plans;
  times.plan_s = seconds_of([&] { plans = plan(c, cpu_kernels().attention); });
  const ScheduleCost cost = cost_of(plans.rows);
  times.density = cost.density();
  times.live_pairs = static_cast<double>(cost.live_pairs);
  AttentionOutputs outputs = call.outputs();
  const AttentionGradArgs args = call.gradient_arguments(outputs);
  const Stream stream{&threads};
  const auto forward = [&] { attention_forward(args.forward, plans.rows, stream); };
  const auto backward = [&] { attention_backward(args, plans.rows, *plans.columns, stream); };
  times.first_call_s = seconds_of(forward);
  if (plans.columns) backward();
  Random random(c.seed);
  times.check = compare_samples(call, outputs, plans.columns.has_value(), kSamples, random);
  check_answer(workload, times.check);
  times.forward_ms = median_ms(reps, forward);
  if (plans.columns) times.backward_ms = median_ms(reps, backward);
  return times;
}

Workload dense_workload(const Workload& workload) {
  const AttentionShape& shape = workload.shape;
  return {workload.name + " (dense)", "all", Mask::all(),
          uniform_shape(1, std::min(workload.tokens(), kDenseTokens), shape.num_q_heads,
                        shape.num_kv_heads),
          workload.head_dim};
}

PlanTimes time_plans(const Workload& workload, const Tiling& rows, const Tiling& columns,
                     int reps) {
  const Mask& mask = workload.mask;
  const AttentionShape& shape = workload.shape;
  PlanTimes times{.rows = compile(mask, shape, rows, Sweep::kRows)};
  times.rows_ms = median_ms(reps, [&] { compile(mask, shape, rows, Sweep::kRows); });
  times.columns_ms = median_ms(reps, [&] { compile(mask, shape, columns, Sweep::kColumns); });
  return times;
}

double copy_bytes_per_s() {
  std::vector<std::byte> from(kCopyBytes, std::byte{1});
  std::vector<std::byte> to(kCopyBytes);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double seconds = seconds_of([&] { std::memcpy(to.data(), from.data(), kCopyBytes); });
    best = std::max(best, static_cast<double>(kCopyBytes) / seconds);
  }
  return best;
}

}  // namespace perpend
