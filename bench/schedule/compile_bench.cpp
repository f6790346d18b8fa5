// How long planning takes: the workloads of workloads.json on the tiling of a GPU, and series that
// grow (bench/plot_planning.py draws them). Each case counts its live tiles, so that time a tile
// can be read off, and page faults. Times are those of the thread: the same as on the wall when a
// machine is idle, and nearly so when it is not. `.../fresh`: the allocator gives its free memory
// back before each call, so that all of it is new, as in a first call.

#include <cstring>
#include <ctime>

#include <benchmark/benchmark.h>
#include <malloc.h>
#include <sys/resource.h>

#include "perpend/core/concat.h"
#include "perpend/core/random.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/workloads/workload.h"

namespace perpend {
namespace {

enum class Memory : std::uint8_t { kUsed, kFresh };

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void plan(benchmark::State& state, const Mask& mask, const AttentionShape& shape,
          const Tiling& tiling, Sweep sweep, Memory memory) {
  long faults = 0;
  for (auto _ : state) {
    if (memory == Memory::kFresh) malloc_trim(0);
    const long faults_before = page_faults();
    const double start = thread_seconds();
    const Schedule schedule = compile(mask, shape, tiling, sweep);
    state.SetIterationTime(thread_seconds() - start);
    faults += page_faults() - faults_before;
    benchmark::DoNotOptimize(schedule.entries.data());
  }
  state.counters["faults"] =
      benchmark::Counter(static_cast<double>(faults), benchmark::Counter::kAvgIterations);
  const ScheduleCost cost = cost_of(compile(mask, shape, tiling, sweep));
  state.counters["live/computed"] = cost.efficiency();
  state.counters["list_MB"] = static_cast<double>(cost.list_bytes) * 1e-6;
  state.counters["tiles"] = static_cast<double>(cost.full_tiles + cost.partial_tiles);
}

void register_case(const std::string& name, const Mask& mask, const AttentionShape& shape,
                   const Tiling& tiling, Sweep sweep) {
  for (const Memory memory : {Memory::kUsed, Memory::kFresh}) {
    const std::string suffix = memory == Memory::kFresh ? "/fresh" : "";
    benchmark::RegisterBenchmark(
        (name + suffix).c_str(),
        [=](benchmark::State& state) { plan(state, mask, shape, tiling, sweep, memory); })
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime();
  }
}

AttentionShape one_head(std::int64_t q_len, std::int64_t kv_len) {
  return {{{q_len, kv_len, kv_len - q_len}}, 1, 1};
}

// One sequence of `count` documents of 16 to 400 tokens.
void register_documents(int count, const Tiling& tiling) {
  Random random(7);
  std::vector<std::int64_t> starts = {0};
  std::int64_t length = 0;
  for (int i = 0; i < count; ++i) {
    length += 16 + static_cast<std::int64_t>(random.next_below(385));
    if (i + 1 < count) starts.push_back(length);
  }
  const Mask mask =
      parse_mask("causal & same(doc)").bind(Bindings().set("doc", Label::segments_at(starts)));
  register_case(concat("ragged_documents/", count), mask, one_head(length, length), tiling,
                Sweep::kRows);
}

// The same as a batch of one sequence a document.
void register_batch(int count, const Tiling& tiling) {
  Random random(7);
  AttentionShape shape;
  for (int i = 0; i < count; ++i) {
    const std::int64_t length = 16 + static_cast<std::int64_t>(random.next_below(385));
    shape.sequences.push_back({length, length, 0});
  }
  register_case(concat("ragged_batch/", count), Mask::causal(), shape, tiling, Sweep::kRows);
}

void register_all() {
  for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
    for (const Workload& workload : read_workloads("gpu_bf16")) {
      register_case(workload.name + (sweep == Sweep::kRows ? "/rows" : "/columns"), workload.mask,
                    workload.shape, gpu_tiling(workload.head_dim, sweep), sweep);
    }
  }
  const Tiling tiling = gpu_tiling(128, Sweep::kRows);
  const Mask sink_window = parse_mask("causal & (sink(128) | window(2048))");
  for (std::int64_t length = 1 << 13; length <= 1 << 22; length *= 2) {
    register_case(concat("sink_window_2048/", length), sink_window, one_head(length, length),
                  tiling, Sweep::kRows);
  }
  const Mask strided_blocks = parse_mask("causal & (near(64, 16) | every(64, 64))");
  for (std::int64_t length = 1 << 13; length <= 1 << 18; length *= 2) {
    register_case(concat("strided_blocks/", length), strided_blocks, one_head(length, length),
                  tiling, Sweep::kRows);
  }
  for (int count = 125; count <= 16000; count *= 2) register_documents(count, tiling);
  register_batch(500, tiling);
  for (const std::int64_t q_len : {1, 16, 64}) {
    register_case(concat("decode_4096/", q_len), Mask::causal(), one_head(q_len, 4096),
                  plain_tiling(64, 64), Sweep::kRows);
  }
}

// The machine's own measure: bytes that one thread copies a second.
void copy(benchmark::State& state) {
  const std::vector<char> from(std::size_t{1} << 28, 'x');
  std::vector<char> to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::DoNotOptimize(to.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(from.size()));
}
BENCHMARK(copy)->Unit(benchmark::kMillisecond);

[[maybe_unused]] const bool kRegistered = (register_all(), true);

}  // namespace
}  // namespace perpend
