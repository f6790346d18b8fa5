// Attention on a GPU against the f64 reference: what the kernels treat apart, then random cases.
// PERPEND_CAMPAIGN_SEED chooses the random cases, PERPEND_CAMPAIGN_CASES their number; a failure
// names its case, which PERPEND_CAMPAIGN_CASE runs alone. Skips on a machine without a GPU.

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "perpend/kernels/cuda/column_turns.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/kernels/reference/backends.h"
#include "perpend/kernels/reference/device_copies.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/parallel_campaign.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

// Norm of the error over the norm of o or of a gradient: the rounding of p, of d_s and of the
// operands.
double most_total_error(AttentionOutput output, DType dtype) {
  const double of_o = dtype == DType::kBF16 ? 5e-3 : 1e-3;
  return output == AttentionOutput::kO ? of_o : 2 * of_o;
}

constexpr std::array kOutputs = {&AttentionOutputs::o, &AttentionOutputs::lse,
                                 &AttentionOutputs::dq, &AttentionOutputs::dk,
                                 &AttentionOutputs::dv};

AttentionGradArgs copied(const AttentionGradArgs& host, DeviceCopies& copies) {
  AttentionGradArgs args = host;
  AttentionArgs& forward = args.forward;
  for (TensorView* view : {&forward.q, &forward.k, &forward.v, &forward.o, &forward.lse, &args.d_o,
                           &args.d_lse, &args.dq, &args.dk, &args.dv}) {
    *view = copies.copy(*view);
  }
  return args;
}

// How dq is summed.
enum class Sums { kInOrder, kInTurns, kInAnyOrder };
constexpr std::array kEachSum = {Sums::kInOrder, Sums::kInTurns, Sums::kInAnyOrder};
void set(AttentionCase& c, Sums sums) {
  c.deterministic = sums != Sums::kInAnyOrder;
  c.in_turns = sums == Sums::kInTurns;
}

// Whether dq may be added up in another order each time.
bool may_be_fused(const AttentionCase& c) {
  const bool has_kernel = c.head_dim > 32 && c.head_dim <= 128;
  return !c.deterministic && has_kernel && c.soft_cap == 0 && !c.alibi;
}

std::optional<AttentionBackend> gpu_backend() {
  for (const AttentionBackend& backend : attention_backends()) {
    if (backend.device.type == DeviceType::kCuda) return backend;
  }
  return {};
}

class AttentionCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto backend = gpu_backend()) {
      backend_ = *backend;
    } else {
      GTEST_SKIP() << "no CUDA device";
    }
  }

  // Empty, or what is wrong with a case on the GPU, with each of these sums. `change`: of the
  // tilings that the table offers.
  std::string faults(AttentionCase c, std::span<const Sums> sums,
                     FunctionRef<Tiling(const Tiling&)> change, ThreadPool& threads) const {
    const AttentionPlans plans = plan(c, backend_.table, change);
    AttentionCall call(c);
    const AttentionExpectation expectation(call, plans.columns.has_value(), threads);
    std::string result;
    for (const Sums how : sums) {
      set(c, how);
      result += faults(c, plans, expectation, threads);
    }
    if (!result.empty()) {
      std::string plan_fault = verify(plans.rows, c.masks);
      if (plan_fault.empty() && plans.columns) plan_fault = verify(*plans.columns, c.masks);
      result += concat("\n  its plan is ", plan_fault.empty() ? "right" : plan_fault);
    }
    return result;
  }
  static std::string faults_of(const AttentionOutputs& outputs, const AttentionCase& c,
                               const AttentionExpectation& expectation) {
    std::string result;
    for (const Deviation& d : expectation.compare(outputs)) {
      if (!d.holds()) result += concat("\n  ", d);
      if (d.output == AttentionOutput::kLse) continue;
      if (!(d.total_error < most_total_error(d.output, c.q_dtype))) {
        result += concat("\n  total error ", d.total_error, " of ", d);
      }
    }
    return result;
  }
  std::string faults(const AttentionCase& c, const AttentionPlans& plans,
                     const AttentionExpectation& expectation, ThreadPool& threads) const {
    AttentionCall call(c);
    const AttentionOutputs outputs = call.run(backend_, plans, threads);
    std::string result = faults_of(outputs, c, expectation);
    const AttentionOutputs again = call.run(backend_, plans, threads);
    for (std::size_t s = 0; s < outputs.o.lengths().size(); ++s) {
      for (const auto output : kOutputs) {
        if (may_be_fused(c) && output == &AttentionOutputs::dq) continue;
        if ((outputs.*output).row_bytes(s) != (again.*output).row_bytes(s)) {
          result += concat("\n  sequence ", s, " differs between two runs");
        }
      }
    }
    const char* sums = c.in_turns ? "\n  in turns:" : "\n  not deterministic:";
    return result.empty() || (c.deterministic && !c.in_turns) ? result : concat(sums, result);
  }
  // Cases beside each other, each on one thread: most of the time goes to the reference.
  void expect_right(const std::vector<AttentionCase>& cases,
                    FunctionRef<Tiling(const Tiling&)> change) {
    threads_.parallel_for(static_cast<std::int64_t>(cases.size()), 1, [&](Range range) {
      ThreadPool one_thread(1);
      for (std::int64_t i = range.begin; i < range.end; ++i) {
        const AttentionCase& c = cases[static_cast<std::size_t>(i)];
        const std::string found = faults(c, kEachSum, change, one_thread);
        EXPECT_TRUE(found.empty()) << c << found;
      }
    });
  }
  void expect_right(const std::vector<AttentionCase>& cases) {
    expect_right(cases, [](const Tiling& offered) { return offered; });
  }

  void expect_shared_plan(bool in_turns);

  AttentionBackend backend_;
  ThreadPool threads_;
};

AttentionCase make_case(const std::string& mask, std::vector<SequenceShape> sequences, int heads,
                        int kv_heads, std::int64_t head_dim, DType dtype = DType::kBF16) {
  AttentionCase c;
  c.masks = {parse_mask(mask)};
  c.shape = {std::move(sequences), heads, kv_heads};
  c.head_dim = head_dim;
  c.q_dtype = c.kv_dtype = dtype;
  return c;
}

TEST_F(AttentionCuda, EveryHeadDimAndType) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {8, 32, 40, 64, 72, 80, 96, 128, 136, 192, 200, 256}) {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      cases.push_back(make_case("all", {{256, 256, 0}}, 2, 2, head_dim, dtype));
      cases.push_back(make_case("causal", {{333, 333, 0}}, 2, 2, head_dim, dtype));
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, EveryKindOfMask) {
  std::vector<AttentionCase> cases;
  for (const char* mask :
       {"causal & window(100)", "window(40, 70)", "causal & (sink(64) | window(150))",
        "causal & (near(64, 2) | every(64, 4, 1))", "upto(block(32))", "upto(block(144))",
        "block_diffusion(256, 32)", "same(block(64))", "same(block(100))", "~causal",
        "causal & every(16, 8)", "causal & (every(32, 4) | window(20))",
        "heads(0-1: causal; rest: window(30, 30))", "none", "k_in(block(64), 0, 3, 5)",
        "causal & (same(segments(60*6, 152)) | k_in(segments(60*6, 152), 0))"}) {
    for (const std::int64_t head_dim : {32, 64, 128, 192}) {
      cases.push_back(make_case(mask, {{512, 512, 0}}, 4, 4, head_dim));
      cases.push_back(make_case(mask, {{512, 512, 0}}, 4, 1, head_dim));
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, LongLists) {
  expect_right({make_case("all", {{300, 3000, 2700}}, 2, 2, 128),
                make_case("causal", {{1500, 1500, 0}}, 1, 1, 128),
                make_case("causal & (sink(64) | window(300))", {{2500, 2500, 0}}, 1, 1, 64),
                make_case("causal", {{1500, 1500, 0}}, 2, 1, 32)});
}

// So many that items are taken in advance: more than eight for each of two teams of a CTA.
TEST_F(AttentionCuda, ManyItemsOfAStep) {
  const std::vector<SequenceShape> sequences(10, {40, 40, 0});
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {24, 32, 64}) {
    cases.push_back(make_case("same(block(16))", sequences, 384, 384, head_dim));
    cases.push_back(make_case("same(block(25))", sequences, 768, 384, head_dim));
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, HeadsOfAGroupShareRows) {
  std::vector<AttentionCase> cases;
  for (const int group : {2, 3, 4, 7, 8, 16, 64}) {
    for (const char* mask : {"causal", "upto(block(32))", "all"}) {
      cases.push_back(make_case(mask, {{200, 200, 0}}, 2 * group, 2, 64));
      cases.push_back(make_case(mask, {{5, 300, 295}}, group, 1, 128));
      cases.push_back(make_case(mask, {{150, 200, 50}}, group, 1, 32));
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, RaggedBatchesAndLengths) {
  const std::vector<SequenceShape> sequences = {{1, 1, 0},       {130, 130, 0}, {64, 500, 436},
                                                {300, 200, 0},   {1, 700, 699}, {17, 17, 0},
                                                {129, 257, 128}, {255, 64, 100}};
  std::vector<AttentionCase> cases;
  for (const bool ragged : {true, false}) {
    for (const char* mask : {"all", "causal", "causal & window(33)", "causal & same(block(16))"}) {
      for (const std::int64_t head_dim : {32, 64, 128, 256}) {
        AttentionCase c = make_case(mask, sequences, 4, 2, head_dim);
        c.layout.ragged = true;
        if (!ragged) {
          c.layout = {.head_major = true};
          c.shape.sequences = {{77, 300, 223}, {77, 300, 0}, {77, 300, 300}};
        }
        cases.push_back(c);
      }
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, MoreQueriesThanKeysAndNoKeyAtAll) {
  expect_right({make_case("causal", {{400, 100, 0}}, 2, 2, 128),
                make_case("window(10)", {{400, 100, 0}}, 2, 2, 64),
                make_case("all", {{100, 0, 0}}, 2, 2, 64),
                make_case("causal & ~window(200)", {{500, 500, 0}}, 2, 2, 128)});
}

// Plans that the search would not choose: sub-tiles of each size, parts that skip, heads apart.
TEST_F(AttentionCuda, AnyPlanOfTheTiling) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {32, 64, 128, 256}) {
    for (const char* mask : {"same(block(64))", "causal & every(16, 4)", "causal & window(64)",
                             "causal & (near(64, 1) | every(64, 3))"}) {
      cases.push_back(make_case(mask, {{600, 600, 0}}, 2, 2, head_dim));
    }
  }
  for (const int sub_tile : {0, 16, 32, 64}) {
    expect_right(cases, [&](Tiling tiling) {
      tiling.sub_tiles = {std::min(sub_tile, tiling.inner_tile / 2)};
      tiling.any_start = sub_tile != 32;
      return tiling;
    });
  }
}

TEST_F(AttentionCuda, ChangedScores) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {32, 64, 128, 256}) {
    for (const char* mask : {"all", "causal & (sink(16) | window(100))", "causal & every(16, 4)"}) {
      for (int change = 1; change < 8; ++change) {
        AttentionCase c = make_case(mask, {{300, 300, 0}, {40, 200, 160}}, 4, 2, head_dim);
        c.layout.ragged = true;
        if ((change & 1) != 0) c.soft_cap = 5;
        if ((change & 2) != 0) c.alibi = true;
        if ((change & 4) != 0) c.scale = -0.2F;
        cases.push_back(c);
      }
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, LayoutsThatTheCopyEngineCanNotLoad) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t gap : {0, 3, 8}) {
    for (const std::int64_t page_size : {0, 16, 64}) {
      for (const std::int64_t head_dim : {1, 50, 64, 128, 250}) {
        AttentionCase c =
            make_case("causal & (sink(16) | window(90))", {{150, 150, 0}}, 4, 2, head_dim);
        c.layout = {.head_major = gap == 3, .gap = gap};
        c.page_size = page_size;
        c.f32_outputs = gap == 8;
        c.without_lse = gap == 3;
        cases.push_back(c);
      }
    }
  }
  expect_right(cases);
}

TEST_F(AttentionCuda, OutputsInF32AndAScale) {
  AttentionCase c = make_case("causal", {{200, 200, 0}}, 2, 2, 128, DType::kF16);
  c.f32_outputs = true;
  c.scale = 0.3F;
  expect_right({c});
}

// A small case for each kernel: what tools/gpu.sh runs under compute-sanitizer.
TEST_F(AttentionCuda, EveryKernel) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {24, 64, 96, 128, 192, 256}) {
    // Bitmaps and full steps, gathers, steps of one half alone, rows without a key.
    for (const char* mask :
         {"causal", "causal & every(16, 4)", "same(block(64))", "causal & ~window(60)"}) {
      cases.push_back(make_case(mask, {{260, 260, 0}}, 1, 1, head_dim));
    }
    AttentionCase changed = make_case("causal", {{150, 150, 0}}, 1, 1, head_dim);
    changed.soft_cap = 5;
    changed.alibi = true;
    AttentionCase portable = make_case("causal", {{150, 150, 0}}, 1, 1, head_dim);
    portable.layout.gap = 3;
    AttentionCase group = make_case("causal", {{70, 70, 0}, {5, 40, 35}}, 4, 1, head_dim);
    group.layout.ragged = true;
    group.q_dtype = group.kv_dtype = DType::kF16;
    cases.insert(cases.end(), {changed, portable, group});
  }
  for (AttentionCase& c : cases) {
    const AttentionPlans plans = plan(c, backend_.table);
    const AttentionExpectation expectation(AttentionCall(c), plans.columns.has_value(), threads_);
    for (const Sums sums : kEachSum) {
      set(c, sums);
      const AttentionOutputs outputs = AttentionCall(c).run(backend_, plans, threads_);
      const std::string found = faults_of(outputs, c, expectation);
      EXPECT_TRUE(found.empty()) << c << found;
    }
  }
}

// Of so many heads that CTAs hardly wait for each other.
TEST_F(AttentionCuda, QueriesSummedInTurns) {
  int multiprocessors = 0;
  cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "test");
  std::vector<AttentionCase> cases;
  for (const char* mask : {"all", "causal", "causal & (sink(64) | window(300))",
                           "causal & (near(64, 2) | every(64, 4))", "upto(block(48))"}) {
    cases.push_back(make_case(mask, {{1100, 1100, 0}}, 32, 32, 64, DType::kF16));
    cases.push_back(make_case(mask, {{1024, 1024, 0}, {70, 300, 230}}, 24, 8, 128));
    cases.back().layout.ragged = true;
  }
  for (const AttentionCase& c : cases) {
    const auto head_dim = static_cast<int>(c.head_dim);
    const Schedule columns =
        compile(c.masks, c.shape, gpu_tiling(head_dim, Sweep::kColumns), Sweep::kColumns);
    EXPECT_TRUE(make_column_turns(make_column_image(columns, head_dim), c.shape.group_size(),
                                  {multiprocessors, 0}, 1.2))
        << c;
  }
  expect_right(cases);
}

// What is uploaded once serves many streams at a time, and a captured graph.
void AttentionCuda::expect_shared_plan(bool in_turns) {
  AttentionCase c = make_case("causal", {{2000, 2000, 0}}, 4, 4, 128);
  c.in_turns = in_turns;
  AttentionCall call(c);
  const AttentionPlans plans = plan(call.attention_case(), backend_.table);
  const AttentionOutputs expected = call.run(backend_, plans, threads_);
  constexpr int kStreams = 4;
  std::vector<AttentionOutputs> outputs(kStreams + 1, call.outputs());
  std::vector<cudaStream_t> streams(kStreams + 1);
  {
    std::vector<std::unique_ptr<DeviceCopies>> copies;
    std::vector<AttentionGradArgs> args;
    for (AttentionOutputs& output : outputs) {
      copies.push_back(std::make_unique<DeviceCopies>(backend_));
      args.push_back(copied(call.gradient_arguments(output), *copies.back()));
    }
    for (cudaStream_t& stream : streams) {
      cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "test");
    }
    const auto launch = [&](std::size_t s) {
      backend_.table.forward(args[s].forward, plans.rows, {nullptr, streams[s]});
      backend_.table.backward(args[s], plans.rows, *plans.columns, {nullptr, streams[s]});
    };
    cuda_check(cudaStreamBeginCapture(streams[kStreams], cudaStreamCaptureModeGlobal), "test");
    launch(kStreams);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t captured = nullptr;
    cuda_check(cudaStreamEndCapture(streams[kStreams], &graph), "test");
    cuda_check(cudaGraphInstantiate(&captured, graph, 0), "test");
    for (int i = 0; i < 20; ++i) {
      for (std::size_t s = 0; s < kStreams; ++s) launch(s);
      cuda_check(cudaGraphLaunch(captured, streams[kStreams]), "test");
    }
    cuda_check(cudaDeviceSynchronize(), "test");
    for (const auto& copy : copies) copy->bring_back();
    cuda_check(cudaGraphExecDestroy(captured), "test");
    cuda_check(cudaGraphDestroy(graph), "test");
    for (const cudaStream_t stream : streams) cuda_check(cudaStreamDestroy(stream), "test");
  }
  for (const AttentionOutputs& output : outputs) {
    for (const auto part : kOutputs) {
      EXPECT_EQ((output.*part).row_bytes(0), (expected.*part).row_bytes(0));
    }
  }
}

TEST_F(AttentionCuda, StreamsAndGraphsShareAPlan) { expect_shared_plan(false); }
// More CTAs than run at a time, of launches that may wait for their own alone.
TEST_F(AttentionCuda, StreamsAndGraphsShareAPlanWithTurns) { expect_shared_plan(true); }

// Cases of the campaign in the types of the kernels, in every other case with rows that the copy
// engine can load.
AttentionCase random_cuda_case(Random& random) {
  AttentionCase c = random_attention_case(random);
  c.q_dtype = c.kv_dtype = random.next_below(2) == 0 ? DType::kBF16 : DType::kF16;
  set(c, kEachSum[random.next_below(kEachSum.size())]);
  if (random.next_below(2) == 0) {
    c.head_dim = round_up(c.head_dim, 8);
    c.layout.gap = 0;
    c.page_size = 0;
    // Dense keys have one length, which paged ones need not have.
    c.layout.ragged = true;
  }
  return c;
}

Tiling varied(Tiling tiling, std::uint64_t variation) {
  if ((variation & 1U) != 0) tiling.sub_tiles = {16, 32};
  if ((variation & 2U) != 0) tiling.heads = HeadRows::kSeparate;
  if ((variation & 4U) != 0) tiling.any_outer_start = false;
  return tiling;
}

TEST_F(AttentionCuda, RandomCases) {
  expect_no_faults(Campaign(1000), threads_, [&](Random& random, ThreadPool& one_thread) {
    const AttentionCase c = random_cuda_case(random);
    const std::uint64_t variation = random.next_below(8);
    const std::string found = faults(
        c,
        std::array{c.in_turns ? Sums::kInTurns
                              : (c.deterministic ? Sums::kInOrder : Sums::kInAnyOrder)},
        [&](const Tiling& offered) { return varied(offered, variation); }, one_thread);
    return found.empty() ? found : concat(c, found);
  });
}

}  // namespace
}  // namespace perpend
