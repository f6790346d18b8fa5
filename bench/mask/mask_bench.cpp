// What planning asks of a mask, without the planning: for each outer tile of 128 the stretches
// along the inner axis, then a class for each tile of 128 that no answer decides, and words for
// each row of the first tile of a class. Times are of whole sequences; counters give one outer
// tile.

#include <array>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include <benchmark/benchmark.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/hash_mix.h"
#include "perpend/mask/retention.h"

namespace perpend {
namespace {

struct Workload {
  std::string mask;
  std::string bindings;
  std::int64_t length;
};

// 500 documents of 20 to 380 tokens behind an instruction.
Workload ragged_documents() {
  Random random(1);
  Workload work{"causal & (same(doc) | k_in(doc, 0))", "doc = segments(200", 200};
  for (int i = 0; i < 500; ++i) {
    const auto size = static_cast<std::int64_t>(20 + random.next_below(361));
    work.bindings += concat(", ", size);
    work.length += size;
  }
  work.bindings += ")";
  return work;
}

constexpr std::int64_t kTile = 128;

struct Counts {
  std::int64_t stretches = 0;
  std::int64_t partial_tiles = 0;
  std::int64_t classes = 0;
  std::int64_t live_words = 0;
};

class Walk {
 public:
  Walk(const BoundMask& mask, Sweep sweep, std::int64_t length)
      : mask_(mask), sweep_(sweep), length_(length) {}

  Counts run() {
    for (std::int64_t begin = 0; begin < length_; begin += kTile) {
      walk({begin, std::min(begin + kTile, length_)});
    }
    return counts_;
  }

 private:
  void walk(Range outer) {
    MaskWalk questions(mask_, sweep_, outer);
    for (std::int64_t inner = 0; inner < length_;) {
      const auto part = questions.stretch({inner, length_});
      ++counts_.stretches;
      const std::int64_t whole = part.end == length_ ? length_ : part.end / kTile * kTile;
      if (part.answer != Answer::kSome && whole > inner) {
        inner = whole;
        continue;
      }
      classify(questions, outer, {inner, std::min(inner + kTile, length_)});
      inner += kTile;
    }
  }

  void classify(MaskWalk& questions, Range outer, Range tile) {
    ++counts_.partial_tiles;
    key_.clear();
    questions.append_class(tile, key_);
    HashMix hash(static_cast<std::uint64_t>(tile.size() * kTile + outer.size()));
    for (const std::int64_t part : key_) hash.add(part);
    if (!seen_.insert(hash.value()).second) return;
    ++counts_.classes;
    for (std::int64_t begin = tile.begin; begin < tile.end; begin += 64) {
      mask_.words(sweep_, outer, begin, words_.data());
      for (const std::uint64_t word : words_) counts_.live_words += word != 0 ? 1 : 0;
    }
  }

  const BoundMask& mask_;
  Sweep sweep_;
  std::int64_t length_;
  Counts counts_;
  std::vector<std::int64_t> key_;
  std::array<std::uint64_t, kTile> words_{};
  std::unordered_set<std::size_t> seen_;
};

void walk(benchmark::State& state, const Workload& work, Sweep sweep) {
  const BoundMask mask(parse_mask(work.mask).bind(parse_bindings(work.bindings)));
  check(mask.visible(work.length - 1, work.length - 1), "mask bench: the last token sees itself");
  Counts counts;
  for (auto _ : state) {
    counts = Walk(mask, sweep, work.length).run();
    benchmark::DoNotOptimize(counts.live_words);
  }
  state.counters["stretches"] = static_cast<double>(counts.stretches);
  state.counters["partial"] = static_cast<double>(counts.partial_tiles);
  state.counters["classes"] = static_cast<double>(counts.classes);
  state.counters["s_per_tile"] = benchmark::Counter(
      static_cast<double>(ceil_div(work.length, kTile)),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

const Workload kSinkWindow = {"causal & (sink(128) | window(2048))", "", 1 << 20};
const Workload kStrided = {"causal & (near(64, 16) | every(64, 16, 1))", "", 32768};
const Workload kDocuments = {"causal & (same(doc) | k_in(doc, 0) | q_in(doc, 501))",
                             "doc = segments(200*501, 152)", 100352};
const Workload kDiffusion = {"block_diffusion(4096, 32)", "", 8192};
const Workload kSwin = {"same(grid(256, 256).window(8, 8, 4))", "", 65536};
const Workload kFrames = {"upto(block(144))", "", 4608};

BENCHMARK_CAPTURE(walk, sink_window_1m, kSinkWindow, Sweep::kRows)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, sink_window_1m_columns, kSinkWindow, Sweep::kColumns)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, strided_32k_one_head, kStrided, Sweep::kRows)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(walk, documents_500x200, kDocuments, Sweep::kRows)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, documents_500x200_columns, kDocuments, Sweep::kColumns)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, ragged_documents_500, ragged_documents(), Sweep::kRows)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, block_diffusion_8k, kDiffusion, Sweep::kRows)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(walk, swin_256, kSwin, Sweep::kRows)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, frames_4608, kFrames, Sweep::kRows)->Unit(benchmark::kMicrosecond);

// What a cache asks each time a page of 64 keys is full, about every page it might hold.
void retain(benchmark::State& state, const Workload& work) {
  const Mask mask = parse_mask(work.mask).bind(parse_bindings(work.bindings));
  const Retention retention(mask, work.length);
  const std::int64_t num_tokens = work.length / 2;
  std::int64_t kept = 0;
  for (auto _ : state) kept = retention.retained_pages(num_tokens, 64);
  state.counters["kept"] = static_cast<double>(kept);
  const std::int64_t num_pages = num_tokens / 64;
  state.counters["s_per_page"] = benchmark::Counter(
      static_cast<double>(num_pages),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK_CAPTURE(retain, sink_window, kSinkWindow)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(retain, strided, kStrided)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(retain, documents, kDocuments)->Unit(benchmark::kMicrosecond);

void bind(benchmark::State& state, const Workload& work) {
  const Mask mask = parse_mask(work.mask).bind(parse_bindings(work.bindings));
  for (auto _ : state) benchmark::DoNotOptimize(BoundMask(mask));
}
BENCHMARK_CAPTURE(bind, causal, Workload{"causal", "", 1});
BENCHMARK_CAPTURE(bind, sink_window, kSinkWindow);
BENCHMARK_CAPTURE(bind, documents, kDocuments);

}  // namespace
}  // namespace perpend
