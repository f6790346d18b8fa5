// Speed of attention in the shape of a small model (9 query heads on 3 key/value heads of 64
// values). Prefill counts 4 * head_dim operations a live pair, so that masked work earns nothing,
// and backward 10 * head_dim; decode counts the bytes of the keys and values that a call reads.
// Each case is first held against a plain f64 sum, backward against the sum of its gradients.

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
        reinterpret_cast<std::uint16_t*>(bytes.data())[i] =
            dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
      }
    }
  }
  TensorView view() { return TensorView::dense(bytes.data(), dtype, shape); }
  double get(std::int64_t index) const {
    if (dtype == DType::kF32) return reinterpret_cast<const float*>(bytes.data())[index];
    const std::uint16_t half = reinterpret_cast<const std::uint16_t*>(bytes.data())[index];
    return dtype == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
  }

  DType dtype;
  Dims shape;
  std::vector<std::byte> bytes;
};

struct Problem {
  Problem(const Mask& mask_, std::int64_t q_len, std::int64_t kv_len, DType q_dtype, DType kv_dtype)
      : mask(mask_),
        q(q_dtype, {1, q_len, kQHeads, kDim}, random),
        o(q_dtype, {1, q_len, kQHeads, kDim}, random),
        k(kv_dtype, {1, kv_len, kKvHeads, kDim}, random),
        v(kv_dtype, {1, kv_len, kKvHeads, kDim}, random),
        shape{{{q_len, kv_len, kv_len - q_len}}, kQHeads, kKvHeads},
        lse(DType::kF32, {1, kQHeads, q_len}, random),
        spec{q_dtype, kv_dtype, kDim, false},
        schedule(compile(mask, shape, cpu_kernels().attention.tiling(spec, Sweep::kRows))) {}

  AttentionArgs args() {
    AttentionArgs args;
    args.q = q.view();
    args.k = k.view();
    args.v = v.view();
    args.o = o.view();
    args.lse = lse.view();
    args.scratch = &scratch;
    return args;
  }

  void run(ThreadPool& threads) { attention_forward(args(), schedule, {&threads, nullptr}); }

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
  Tensor lse;
  AttentionSpec spec;
  Schedule schedule;
  AlignedBuffer scratch;
};

// The backward pass of a problem.
struct Gradients {
  explicit Gradients(Problem& of)
      : problem(of),
        columns(compile(of.mask, of.shape, cpu_kernels().attention.tiling(of.spec, Sweep::kColumns),
                        Sweep::kColumns)),
        d_o(of.q.dtype, of.q.shape, of.random),
        dq(of.q.dtype, of.q.shape, of.random),
        dk(of.k.dtype, of.k.shape, of.random),
        dv(DType::kF32, of.k.shape, of.random) {}

  void run(ThreadPool& threads) {
    AttentionGradArgs args;
    args.forward = problem.args();
    args.d_o = d_o.view();
    args.dq = dq.view();
    args.dk = dk.view();
    args.dv = dv.view();
    attention_backward(args, problem.schedule, columns, {&threads, nullptr});
  }

  // Probabilities of a query add up to 1, so dv over all keys adds up to d_o over all queries.
  double sum_error() const {
    double sum = 0;
    double size = 0;
    for (std::int64_t i = 0; i < num_elements(dv.shape); ++i) sum += dv.get(i);
    for (std::int64_t i = 0; i < num_elements(d_o.shape); ++i) {
      sum -= d_o.get(i);
      size += std::abs(d_o.get(i));
    }
    return std::abs(sum) / size;
  }

  Problem& problem;
  Schedule columns;
  Tensor d_o, dq, dk, dv;
};

// Runs the problem once and tells whether its answer is right; if not, the case is not timed.
bool is_right(Problem& problem, ThreadPool& threads, benchmark::State& state) {
  problem.run(threads);
  if (problem.last_row_error() < (problem.q.dtype == DType::kBF16 ? 1e-2 : 1e-5)) return true;
  state.SkipWithError("the output is wrong");
  return false;
}

void prefill(benchmark::State& state, const std::string& mask, DType q_dtype, DType kv_dtype) {
  ThreadPool threads(static_cast<int>(state.range(1)));
  Problem problem(parse_mask(mask), state.range(0), state.range(0), q_dtype, kv_dtype);
  if (!is_right(problem, threads, state)) return;
  for (auto _ : state) problem.run(threads);
  const double work = cost_of(problem.schedule).flops(kDim);
  state.counters["GFLOP/s"] =
      benchmark::Counter(work * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void backward(benchmark::State& state, const std::string& mask, DType dtype) {
  ThreadPool threads(static_cast<int>(state.range(1)));
  Problem problem(parse_mask(mask), state.range(0), state.range(0), dtype, dtype);
  if (!is_right(problem, threads, state)) return;
  Gradients gradients(problem);
  gradients.run(threads);
  if (!(gradients.sum_error() < 1e-3)) return state.SkipWithError("the gradients are wrong");
  for (auto _ : state) gradients.run(threads);
  const double work = cost_of(problem.schedule).backward_flops(kDim);
  state.counters["GFLOP/s"] =
      benchmark::Counter(work * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void decode(benchmark::State& state, DType kv_dtype) {
  ThreadPool threads(static_cast<int>(state.range(1)));
  Problem problem(Mask::causal(), 1, state.range(0), DType::kF32, kv_dtype);
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

constexpr const char* kSinkWindow = "causal & (sink(64) | window(1024))";
BENCHMARK_CAPTURE(prefill, causal_f32, "causal", DType::kF32, DType::kF32)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, causal_f16, "causal", DType::kF32, DType::kF16)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, causal_bf16, "causal", DType::kBF16, DType::kBF16)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, sink_window_f32, kSinkWindow, DType::kF32, DType::kF32)
    ->Apply(prefill_sizes);
BENCHMARK_CAPTURE(prefill, sink_window_bf16, kSinkWindow, DType::kBF16, DType::kBF16)
    ->Apply(prefill_sizes);
BENCHMARK_CAPTURE(backward, causal_f32, "causal", DType::kF32)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(backward, causal_bf16, "causal", DType::kBF16)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(backward, sink_window_bf16, kSinkWindow, DType::kBF16)->Apply(prefill_sizes);
BENCHMARK_CAPTURE(decode, f32, DType::kF32)->Apply(decode_sizes);
BENCHMARK_CAPTURE(decode, f16, DType::kF16)->Apply(decode_sizes);

}  // namespace
}  // namespace perpend
