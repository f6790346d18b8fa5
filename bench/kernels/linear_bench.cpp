// Speed of products with block-quantised weights in the shapes of a small model: one row (decode,
// bound by the bytes of the weight) and many (prefill, bound by operations; 2 * out * in a row).

#include <cstddef>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "perpend/core/random.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

constexpr std::int64_t kIn = 576;
constexpr std::int64_t kOut = 3072;  // gate and up in one

PackedWeight random_weight(BlockFormat format, LinearMode mode, ThreadPool& threads) {
  Random random(3);
  std::vector<float> row(static_cast<std::size_t>(kIn));
  const std::size_t bytes = row_bytes(format, kIn);
  std::vector<std::byte> blocks(bytes * static_cast<std::size_t>(kOut));
  for (std::size_t i = 0; i < static_cast<std::size_t>(kOut); ++i) {
    for (float& value : row) value = 2 * random.next_float() - 1;
    quantize_row(format, row, {blocks.data() + i * bytes, bytes});
  }
  const WeightSource source{format, kOut, kIn, blocks.data()};
  return cpu_kernels().quantized.pack({&source, 1}, mode, {&threads, nullptr});
}

void linear(benchmark::State& state, BlockFormat format, LinearMode mode) {
  const std::int64_t rows = state.range(0);
  ThreadPool threads(static_cast<int>(state.range(1)));
  const PackedWeight weight = random_weight(format, mode, threads);
  std::vector<float> x(static_cast<std::size_t>(rows * kIn), 0.5F);
  std::vector<float> out(static_cast<std::size_t>(rows * kOut));
  AlignedBuffer scratch;
  LinearArgs args;
  args.x = TensorView::dense(x.data(), {rows, kIn});
  args.weight = &weight;
  args.out = TensorView::dense(out.data(), {rows, kOut});
  args.scratch = &scratch;
  for (auto _ : state) cpu_kernels().quantized.linear(args, {&threads, nullptr});
  constexpr auto kRate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(weight.num_bytes()) * 1e-9, kRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(rows * kIn * kOut), kRate);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (std::int64_t rows : {1, 8, 512}) {
    for (std::int64_t threads : {1, 2}) bench->Args({rows, threads});
  }
}

BENCHMARK_CAPTURE(linear, q4_0, BlockFormat::kQ4_0, LinearMode::kQuantized)->Apply(sizes);
BENCHMARK_CAPTURE(linear, q4_1, BlockFormat::kQ4_1, LinearMode::kQuantized)->Apply(sizes);
BENCHMARK_CAPTURE(linear, q8_0, BlockFormat::kQ8_0, LinearMode::kQuantized)->Apply(sizes);
BENCHMARK_CAPTURE(linear, bf16, BlockFormat::kBF16, LinearMode::kQuantized)->Apply(sizes);
BENCHMARK_CAPTURE(linear, f32, BlockFormat::kF32, LinearMode::kF32)->Apply(sizes);

}  // namespace
}  // namespace perpend
