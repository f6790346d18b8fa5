// Speed of attention in the shape of a small model (9 query heads on 3 key/value heads of 64
// values). Prefill counts 4 * head_dim operations a live pair, so that masked work earns nothing;
// decode counts the bytes of the keys and values that a call reads. Each case is first held against
// a plain f64 sum.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/table.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

constexpr int kQHeads = 9;
constexpr int kKvHeads = 3;
constexpr std::int64_t kDim = 64;

struct Tensor {
  Tensor(DType type, const Dims& dims, Random& random) : dtype(type), shape(dims) {
    bytes.resize(static_cast<std::size_t>(num_elements(shape)) * size_of(dtype));
    for (std::int64_t i = 0; i < num_elements(shape); ++i) {
      const float value = 2 * random.next_float() - 1;
      if (dtype == DType::kF32) {
        reinterpret_cast<float*>(bytes.data())[i] = value;
      } else {
        reinterpret_cast<std::uint16_t*>(bytes.data())[i] = f32_to_f16(value);
      }
    }
  }
  TensorView view() { return TensorView::dense(bytes.data(), dtype, shape); }
  double get(std::int64_t index) const {
    return dtype == DType::kF32
               ? reinterpret_cast<const float*>(bytes.data())[index]
               : f16_to_f32(reinterpret_cast<const std::uint16_t*>(bytes.data())[index]);
  }

  DType dtype;
  Dims shape;
  std::vector<std::byte> bytes;
};

struct Problem {
  Problem(const Mask& mask_, std::int64_t q_len, std::int64_t kv_len, DType kv_dtype)
      : mask(mask_),
        q(DType::kF32, {1, q_len, kQHeads, kDim}, random),
        o(DType::kF32, {1, q_len, kQHeads, kDim}, random),
        k(kv_dtype, {1, kv_len, kKvHeads, kDim}, random),
        v(kv_dtype, {1, kv_len, kKvHeads, kDim}, random),
        shape{{{q_len, kv_len, kv_len - q_len}}, kQHeads, kKvHeads},
        schedule(compile(mask, shape, cpu_kernels().attention.tiling({}, Sweep::kRows))) {}

  void run(ThreadPool& threads) {
    AttentionArgs args;
    args.q = q.view();
    args.k = k.view();
    args.v = v.view();
    args.o = o.view();
    attention_forward(args, schedule, {&threads, nullptr});
  }

  // The largest error of the last query, the one that sees most.
  double last_row_error() const {
    const BoundMask bound(mask);
    const std::int64_t row = q.shape[1] - 1;
    double worst = 0;
    for (int head = 0; head < kQHeads; ++head) {
      std::vector<double> sum(kDim + 1);
      const std::int64_t q_at = (row * kQHeads + head) * kDim;
      for (std::int64_t key = 0; key < k.shape[1]; ++key) {
        if (!bound.visible(k.shape[1] - 1, key)) continue;
        const std::int64_t at = (key * kKvHeads + head * kKvHeads / kQHeads) * kDim;
        double dot = 0;
        for (std::int64_t d = 0; d < kDim; ++d) dot += q.get(q_at + d) * k.get(at + d);
        const double p = std::exp(dot / std::sqrt(static_cast<double>(kDim)));
        for (std::int64_t d = 0; d < kDim; ++d)
          sum[static_cast<std::size_t>(d)] += p * v.get(at + d);
        sum[kDim] += p;
      }
      for (std::int64_t d = 0; d < kDim; ++d) {
        const double want = sum[static_cast<std::size_t>(d)] / sum[kDim];
        worst = std::max(worst, std::abs(o.get(q_at + d) - want));
      }
    }
    return worst;
  }

  Random random{5};
  Mask mask;
  Tensor q, o, k, v;
  AttentionShape shape;
  Schedule schedule;
};

// Runs the problem once and tells whether its answer is right; if not, the case is not timed.
bool is_right(Problem& problem, ThreadPool& threads, benchmark::State& state) {
  problem.run(threads);
  if (problem.last_row_error() < 1e-5) return true;
  state.SkipWithError("the output is wrong");
  return false;
}

void prefill(benchmark::State& state, const std::string& mask, DType kv_dtype) {
  ThreadPool threads(static_cast<int>(state.range(1)));
  Problem problem(parse_mask(mask), state.range(0), state.range(0), kv_dtype);
  if (!is_right(problem, threads, state)) return;
  for (auto _ : state) problem.run(threads);
  const double work = cost_of(problem.schedule).flops(kDim);
  state.counters["GFLOP/s"] =
      benchmark::Counter(work * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void decode(benchmark::State& state, DType kv_dtype) {
  ThreadPool threads(static_cast<int>(state.range(1)));
  Problem problem(Mask::causal(), 1, state.range(0), kv_dtype);
  if (!is_right(problem, threads, state)) return;
  for (auto _ : state) problem.run(threads);
  const double bytes = static_cast<double>(problem.k.bytes.size() + problem.v.bytes.size());
  state.counters["GB/s"] =
      benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void prefill_sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"tokens", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (std::int64_t tokens : {512, 2048, 8192}) bench->Args({tokens, 1});
  bench->Args({2048, 2});
}

void decode_sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"keys", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (std::int64_t keys : {512, 4096}) {
    for (std::int64_t threads : {1, 2}) bench->Args({keys, threads});
  }
}

BENCHMARK_CAPTURE(prefill, causal_f32, "causal", DType::kF32)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, causal_f16, "causal", DType::kF16)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, sink_window_f32, "causal & (sink(64) | window(1024))", DType::kF32)
    ->Apply(prefill_sizes);
BENCHMARK_CAPTURE(decode, f32, DType::kF32)->Apply(decode_sizes);
BENCHMARK_CAPTURE(decode, f16, DType::kF16)->Apply(decode_sizes);

}  // namespace
}  // namespace perpend
