// Attention over top-k lists of blocks on a GPU: what update() costs, which makes a plan of new
// lists, beside forward and backward on it, on the same lists compiled on the host, and that
// compilation. Masks as sparse video attention, MoBA and NSA choose them, with random lists; calls
// in CUDA graphs, timed by events. Both plans must give the same o, dq, dk and dv before anything
// is timed.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

const Device kGpu{DeviceType::kCuda, 0};

class GpuMemory {
 public:
  explicit GpuMemory(std::size_t num_bytes)
      : data_(cuda_kernels().memory.allocate(num_bytes, kGpu)) {}
  ~GpuMemory() { cuda_kernels().memory.release(data_); }
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;

  void* data() const { return data_; }

 private:
  void* data_;
};

struct BlockWorkload {
  const char* name;
  BlockAttentionSpec spec;
};

BlockAttentionSpec spec_of(std::int64_t tokens, int q_heads, int kv_heads, int list_heads) {
  BlockAttentionSpec spec;
  spec.attention = {DType::kBF16, DType::kBF16, 128, false};
  spec.q_len = spec.kv_len = tokens;
  spec.num_q_heads = q_heads;
  spec.num_kv_heads = kv_heads;
  spec.num_list_heads = list_heads;
  return spec;
}

std::vector<BlockWorkload> workloads() {
  constexpr std::int64_t kTokens = 32768;
  BlockAttentionSpec video = spec_of(kTokens, 12, 12, 12);
  video.q_block = video.kv_block = 64;
  video.max_blocks = 64;
  BlockAttentionSpec moba = spec_of(kTokens, 32, 8, 32);
  moba.kv_block = 512;
  moba.max_blocks = 8;
  moba.causal = true;
  BlockAttentionSpec nsa = spec_of(kTokens, 64, 4, 4);
  nsa.q_block = 16;
  nsa.kv_block = 64;
  nsa.max_blocks = 16;
  nsa.causal = true;
  return {{"video", video}, {"moba", moba}, {"nsa", nsa}};
}

// Random blocks, of causal lists among those at or before the query block, which has its own.
std::vector<std::int32_t> random_lists(const BlockAttentionSpec& spec) {
  Random random(1);
  std::vector<std::int32_t> indices;
  for (std::int64_t list = 0; list < spec.num_list_heads * spec.num_q_blocks(); ++list) {
    const std::int64_t q_block = list % spec.num_q_blocks();
    const std::int64_t own = ((q_block + 1) * spec.q_block - 1) / spec.kv_block;
    const std::int64_t range = spec.causal ? own + 1 : spec.num_kv_blocks();
    std::set<std::int32_t> blocks;
    if (spec.causal) blocks.insert(static_cast<std::int32_t>(own));
    const auto wanted = static_cast<std::size_t>(std::min(spec.max_blocks, range));
    while (blocks.size() < wanted) {
      blocks.insert(
          static_cast<std::int32_t>(random.next_below(static_cast<std::uint64_t>(range))));
    }
    indices.insert(indices.end(), blocks.rbegin(), blocks.rend());
    indices.resize(static_cast<std::size_t>((list + 1) * spec.max_blocks), -1);
  }
  return indices;
}

Mask mask_of(const BlockAttentionSpec& spec, const std::vector<std::int32_t>& indices) {
  Bindings bindings;
  std::string text;
  const int heads = spec.num_q_heads / spec.num_list_heads;
  auto next = indices.begin();
  for (int h = 0; h < spec.num_list_heads; ++h) {
    TileMap::Tiles tiles{
        .tile_q = spec.q_block, .tile_k = spec.kv_block, .num_columns = spec.num_kv_blocks()};
    tiles.row_begin.push_back(0);
    for (std::int64_t q = 0; q < spec.num_q_blocks(); ++q, next += spec.max_blocks) {
      const auto first = static_cast<std::ptrdiff_t>(tiles.columns.size());
      std::copy_if(next, next + spec.max_blocks, std::back_inserter(tiles.columns),
                   [](std::int32_t block) { return block >= 0; });
      std::sort(tiles.columns.begin() + first, tiles.columns.end());
      tiles.row_begin.push_back(static_cast<std::int64_t>(tiles.columns.size()));
    }
    tiles.bitmaps.assign(tiles.columns.size(), TileMap::kFull);
    bindings.set(concat("list", h), TileMap(std::move(tiles)));
    text += concat(h > 0 ? "; " : "", h * heads, "-", (h + 1) * heads - 1, ": tiles(list", h, ")");
  }
  return parse_mask(concat(spec.causal ? "causal & " : "", "heads(", text, ")")).bind(bindings);
}

// Operands on the GPU.
class BlockProblem {
 public:
  explicit BlockProblem(const BlockAttentionSpec& spec)
      : spec_(spec),
        host_indices_(random_lists(spec)),
        indices_(host_indices_.size() * sizeof(std::int32_t)),
        q_(bytes_of(spec.q_len, spec.num_q_heads)),
        k_(bytes_of(spec.kv_len, spec.num_kv_heads)),
        v_(bytes_of(spec.kv_len, spec.num_kv_heads)),
        d_o_(bytes_of(spec.q_len, spec.num_q_heads)),
        o_(bytes_of(spec.q_len, spec.num_q_heads)),
        dq_(bytes_of(spec.q_len, spec.num_q_heads)),
        dk_(bytes_of(spec.kv_len, spec.num_kv_heads)),
        dv_(bytes_of(spec.kv_len, spec.num_kv_heads)),
        lse_(static_cast<std::size_t>(spec.q_len * spec.num_q_heads) * sizeof(float)) {
    cuda_kernels().memory.upload(indices_.data(), host_indices_.data(),
                                 host_indices_.size() * sizeof(std::int32_t));
    std::uint64_t seed = 0;
    for (GpuMemory* operand : {&q_, &k_, &v_, &d_o_}) {
      const bool is_query = operand == &q_ || operand == &d_o_;
      std::vector<std::uint16_t> values(bytes_of(is_query ? spec.q_len : spec.kv_len,
                                                 is_query ? spec.num_q_heads : spec.num_kv_heads) /
                                        sizeof(std::uint16_t));
      Random random(++seed);
      for (std::uint16_t& value : values) value = f32_to_bf16(2 * random.next_float() - 1);
      cuda_kernels().memory.upload(operand->data(), values.data(),
                                   values.size() * sizeof(std::uint16_t));
    }
    plan = make_block_attention_plan(spec, kGpu);
    BlockAttentionSpec with_gradients = spec;
    with_gradients.gradients = true;
    gradient_plan = make_block_attention_plan(with_gradients, kGpu);
    const Mask mask = mask_of(spec, host_indices_);
    const auto tiling = [&](Sweep sweep) {
      return cuda_kernels().attention.tiling(spec.attention, sweep);
    };
    columns = compile(mask, spec.shape(), tiling(Sweep::kColumns), Sweep::kColumns);
    const auto start = std::chrono::steady_clock::now();
    compiled = compile(mask, spec.shape(), tiling(Sweep::kRows));
    compile_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }

  void update(BlockAttentionPlan& of, Stream stream) {
    of.update(
        TensorView::dense(indices_.data(), DType::kI32,
                          {1, spec_.num_list_heads, spec_.num_q_blocks(), spec_.max_blocks}, kGpu),
        {}, stream);
  }
  void forward_planned(Stream stream) { attention_forward(args(), *plan, stream); }
  void forward_compiled(Stream stream) { attention_forward(args(), compiled, stream); }
  void backward_planned(bool deterministic, Stream stream) {
    attention_backward(gradient_args(deterministic), *gradient_plan, stream);
  }
  void backward_compiled(bool deterministic, Stream stream) {
    attention_backward(gradient_args(deterministic), compiled, columns, stream);
  }

  // o, dq, dk and dv.
  std::vector<std::vector<float>> outputs() const {
    cuda_check(cudaDeviceSynchronize(), "bench");
    const std::size_t of_queries = bytes_of(spec_.q_len, spec_.num_q_heads);
    const std::size_t of_keys = bytes_of(spec_.kv_len, spec_.num_kv_heads);
    return {values_of(o_, of_queries), values_of(dq_, of_queries), values_of(dk_, of_keys),
            values_of(dv_, of_keys)};
  }

  std::unique_ptr<BlockAttentionPlan> plan;
  std::unique_ptr<BlockAttentionPlan> gradient_plan;
  Schedule compiled;
  Schedule columns;
  double compile_ms = 0;

 private:
  std::size_t bytes_of(std::int64_t tokens, int heads) const {
    return static_cast<std::size_t>(tokens * heads * spec_.attention.head_dim) *
           sizeof(std::uint16_t);
  }
  static std::vector<float> values_of(const GpuMemory& memory, std::size_t num_bytes) {
    std::vector<std::uint16_t> bits(num_bytes / sizeof(std::uint16_t));
    cuda_kernels().memory.download(bits.data(), memory.data(), num_bytes);
    std::vector<float> values(bits.size());
    std::transform(bits.begin(), bits.end(), values.begin(), bf16_to_f32);
    return values;
  }
  AttentionArgs args() const {
    const auto view = [&](const GpuMemory& memory, std::int64_t tokens, int heads) {
      return TensorView::dense(memory.data(), DType::kBF16,
                               {1, tokens, heads, spec_.attention.head_dim}, kGpu);
    };
    AttentionArgs args;
    args.q = view(q_, spec_.q_len, spec_.num_q_heads);
    args.k = view(k_, spec_.kv_len, spec_.num_kv_heads);
    args.v = view(v_, spec_.kv_len, spec_.num_kv_heads);
    args.o = view(o_, spec_.q_len, spec_.num_q_heads);
    args.lse =
        TensorView::dense(lse_.data(), DType::kF32, {1, spec_.num_q_heads, spec_.q_len}, kGpu);
    return args;
  }
  AttentionGradArgs gradient_args(bool deterministic) const {
    AttentionGradArgs gradients;
    gradients.forward = args();
    const auto like = [](TensorView view, const GpuMemory& memory) {
      view.data = memory.data();
      return view;
    };
    gradients.d_o = like(gradients.forward.o, d_o_);
    gradients.dq = like(gradients.forward.q, dq_);
    gradients.dk = like(gradients.forward.k, dk_);
    gradients.dv = like(gradients.forward.v, dv_);
    gradients.deterministic = deterministic;
    return gradients;
  }

  BlockAttentionSpec spec_;
  std::vector<std::int32_t> host_indices_;
  GpuMemory indices_;
  GpuMemory q_;
  GpuMemory k_;
  GpuMemory v_;
  GpuMemory d_o_;
  GpuMemory o_;
  GpuMemory dq_;
  GpuMemory dk_;
  GpuMemory dv_;
  GpuMemory lse_;
};

// Throws unless both plans give the same, with gradients in equal order or any.
void check_plans(BlockProblem& problem) {
  problem.update(*problem.plan, {});
  problem.update(*problem.gradient_plan, {});
  problem.forward_compiled({});
  problem.backward_compiled(true, {});
  const std::vector<std::vector<float>> compiled = problem.outputs();
  for (const bool deterministic : {true, false}) {
    problem.forward_planned({});
    problem.backward_planned(deterministic, {});
    const std::vector<std::vector<float>> planned = problem.outputs();
    for (std::size_t output = 0; output < planned.size(); ++output) {
      double error = 0;
      double norm = 0;
      for (std::size_t i = 0; i < planned[output].size(); ++i) {
        error += std::pow(planned[output][i] - compiled[output][i], 2);
        norm += std::pow(compiled[output][i], 2);
      }
      if (!(std::sqrt(error / norm) < 5e-3)) {
        throw std::runtime_error(concat("the plans differ in output ", output));
      }
    }
  }
}

// A graph of `calls` calls, launched for each iteration.
template <class Call>
void time_calls(benchmark::State& state, int calls, Call call) {
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "bench");
  cuda_check(cudaEventCreate(&begin), "bench");
  cuda_check(cudaEventCreate(&end), "bench");
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "bench");
  for (int i = 0; i < calls; ++i) call(Stream{nullptr, stream});
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t captured = nullptr;
  cuda_check(cudaStreamEndCapture(stream, &graph), "bench");
  cuda_check(cudaGraphInstantiate(&captured, graph, 0), "bench");
  const auto launch_ms = [&] {
    cuda_check(cudaEventRecord(begin, stream), "bench");
    cuda_check(cudaGraphLaunch(captured, stream), "bench");
    cuda_check(cudaEventRecord(end, stream), "bench");
    cuda_check(cudaEventSynchronize(end), "bench");
    float ms = 0;
    cuda_check(cudaEventElapsedTime(&ms, begin, end), "bench");
    return static_cast<double>(ms);
  };
  launch_ms();
  for (auto _ : state) state.SetIterationTime(launch_ms() / 1e3 / calls);
  cuda_check(cudaGraphExecDestroy(captured), "bench");
  cuda_check(cudaGraphDestroy(graph), "bench");
  cuda_check(cudaEventDestroy(begin), "bench");
  cuda_check(cudaEventDestroy(end), "bench");
  cuda_check(cudaStreamDestroy(stream), "bench");
}

void register_workload(const BlockWorkload& workload) {
  // Of the workload's benchmarks, the first that runs makes it.
  const auto shared = std::make_shared<std::unique_ptr<BlockProblem>>();
  const auto problem = [spec = workload.spec, shared]() -> BlockProblem& {
    if (!*shared) {
      *shared = std::make_unique<BlockProblem>(spec);
      check_plans(**shared);
    }
    return **shared;
  };
  const auto add = [&](const char* what, int calls, auto call) {
    const auto run = [=](benchmark::State& state) {
      state.counters["compile_ms"] = problem().compile_ms;
      time_calls(state, calls, [&](Stream stream) { call(problem(), stream); });
    };
    benchmark::RegisterBenchmark(concat(workload.name, "/", what).c_str(), run)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(20)
        ->Repetitions(5)
        ->ReportAggregatesOnly();
  };
  add("update", 20, [](BlockProblem& p, Stream s) { p.update(*p.plan, s); });
  add("update_gradients", 20, [](BlockProblem& p, Stream s) { p.update(*p.gradient_plan, s); });
  add("forward", 4, [](BlockProblem& p, Stream s) { p.forward_planned(s); });
  add("forward_compiled", 4, [](BlockProblem& p, Stream s) { p.forward_compiled(s); });
  add("backward", 4, [](BlockProblem& p, Stream s) { p.backward_planned(true, s); });
  add("backward_compiled", 4, [](BlockProblem& p, Stream s) { p.backward_compiled(true, s); });
  add("backward_fused", 4, [](BlockProblem& p, Stream s) { p.backward_planned(false, s); });
  add("backward_fused_compiled", 4,
      [](BlockProblem& p, Stream s) { p.backward_compiled(false, s); });
}

}  // namespace
}  // namespace perpend

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (perpend::cuda_kernels().memory.num_devices() == 0) {
    std::fprintf(stderr, "no CUDA device\n");
    return 1;
  }
  for (const perpend::BlockWorkload& workload : perpend::workloads()) {
    perpend::register_workload(workload);
  }
  benchmark::RunSpecifiedBenchmarks();
}
