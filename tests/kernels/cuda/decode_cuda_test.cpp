// Attention of few queries and over pages on a GPU against the f64 reference, alone and in a batch,
// and plans that are replaced in place. PERPEND_CAMPAIGN_SEED, _CASES and _CASE as in
// attention_cuda_test.cpp. Skips on a machine without a GPU.

#include <algorithm>
#include <optional>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/kernels/reference/backends.h"
#include "perpend/kernels/reference/device_copies.h"
#include "perpend/mask/bindings.h"
#include "tests/parallel_campaign.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

double most_total_error(DType dtype) { return dtype == DType::kBF16 ? 5e-3 : 1e-3; }

bool equal(const AttentionOutputs& a, std::size_t of_a, const AttentionOutputs& b,
           std::size_t of_b) {
  return a.o.row_bytes(of_a) == b.o.row_bytes(of_b) &&
         a.lse.row_bytes(of_a) == b.lse.row_bytes(of_b);
}

class DecodeCuda : public testing::Test {
 protected:
  void SetUp() override {
    for (const AttentionBackend& backend : attention_backends()) {
      if (backend.device.type == DeviceType::kCuda) backend_ = backend;
    }
    if (backend_.device.type != DeviceType::kCuda) GTEST_SKIP() << "no CUDA device";
  }

  AttentionOutputs run(AttentionCall& call, ThreadPool& threads) const {
    AttentionPlans plans = plan(call.attention_case(), backend_.table);
    plans.columns.reset();
    return call.run(backend_, plans, threads);
  }

  static std::string faults_of(const AttentionCall& call, const AttentionOutputs& outputs,
                               ThreadPool& threads) {
    std::string result;
    for (const Deviation& d : AttentionExpectation(call, false, threads).compare(outputs)) {
      if (!d.holds()) result += concat("\n  ", d);
      if (d.output == AttentionOutput::kLse) continue;
      if (!(d.total_error < most_total_error(call.attention_case().q_dtype))) {
        result += concat("\n  total error ", d.total_error, " of ", d);
      }
    }
    return result;
  }

  // Empty, or what is wrong with a case on the GPU: with its values, or with its bits in another
  // run or without the other sequences.
  std::string faults(const AttentionCase& c, ThreadPool& threads) const {
    AttentionCall call(c);
    const AttentionOutputs outputs = run(call, threads);
    std::string result = faults_of(call, outputs, threads);
    const AttentionOutputs again = run(call, threads);
    for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
      if (!equal(outputs, s, again, s))
        result += concat("\n  sequence ", s, " differs in two runs");
      AttentionCall alone = call.alone(s);
      if (!equal(outputs, s, run(alone, threads), 0)) {
        result += concat("\n  sequence ", s, " differs from what it is alone");
      }
    }
    return result;
  }
  // Cases beside each other, each on one thread: most of the time goes to the reference.
  void expect_right(const std::vector<AttentionCase>& cases) {
    threads_.parallel_for(static_cast<std::int64_t>(cases.size()), 1, [&](Range range) {
      ThreadPool one_thread(1);
      for (std::int64_t i = range.begin; i < range.end; ++i) {
        const AttentionCase& c = cases[static_cast<std::size_t>(i)];
        const std::string found = faults(c, one_thread);
        EXPECT_TRUE(found.empty()) << c << found;
      }
    });
  }

  AttentionBackend backend_;
  ThreadPool threads_;
};

AttentionCase make_case(const std::string& mask, std::vector<SequenceShape> sequences, int heads,
                        int kv_heads, std::int64_t head_dim, std::int64_t page_size = 0) {
  AttentionCase c;
  c.masks = {parse_mask(mask)};
  c.shape = {std::move(sequences), heads, kv_heads};
  c.head_dim = head_dim;
  c.page_size = page_size;
  // As pages of the cache lie.
  c.layout = {.ragged = true, .head_major = page_size != 0};
  c.q_dtype = c.kv_dtype = DType::kBF16;
  return c;
}

SequenceShape decoding(std::int64_t kv_len, std::int64_t q_len = 1) {
  return {q_len, kv_len, kv_len - q_len};
}

TEST_F(DecodeCuda, EveryHeadDimTypeAndPageSize) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {8, 32, 40, 64, 72, 80, 96, 128, 136, 192, 200, 256}) {
    for (const std::int64_t page_size : {16, 32, 48, 64, 112, 128, 256}) {
      AttentionCase c = make_case("causal", {decoding(1), decoding(1111), decoding(640)}, 8, 2,
                                  head_dim, page_size);
      cases.push_back(c);
      c.q_dtype = c.kv_dtype = DType::kF16;
      cases.push_back(c);
    }
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, OnlyWholeBoxesOfPagesAndRowsAreCopied) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t page_size : {1, 8, 24, 100}) {
    cases.push_back(make_case("causal", {decoding(700)}, 4, 2, 128, page_size));
  }
  for (const std::int64_t head_dim : {1, 50, 100, 250}) {
    cases.push_back(make_case("causal", {decoding(700), decoding(90)}, 4, 2, head_dim, 64));
  }
  for (const std::int64_t gap : {3, 8}) {
    AttentionCase c = make_case("causal", {decoding(700), decoding(90)}, 4, 2, 128, 64);
    c.layout.gap = gap;
    c.f32_outputs = gap == 8;
    c.without_lse = gap == 3;
    cases.push_back(c);
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, EveryKindOfMask) {
  std::vector<AttentionCase> cases;
  for (const char* mask :
       {"all", "none", "causal & window(100)", "window(40, 70)",
        "causal & (sink(64) | window(150))", "causal & (near(64, 2) | every(64, 4, 1))",
        "upto(block(32))", "same(block(64))", "~causal", "causal & every(16, 8)",
        "causal & (every(32, 4) | window(20))", "causal & ~window(1000)",
        "heads(0-1: causal; rest: window(30, 30))", "k_in(block(64), 0, 3, 5)"}) {
    for (const std::int64_t page_size : {0, 16, 64}) {
      for (const std::int64_t head_dim : {64, 128, 256}) {
        const std::vector<SequenceShape> sequences = {
            decoding(2000, 3), decoding(517), {1, 700, 350}};
        cases.push_back(make_case(mask, sequences, 4, 4, head_dim, page_size));
        cases.push_back(make_case(mask, sequences, 4, 1, head_dim, page_size));
      }
    }
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, BlocksAndSpeculation) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t page_size : {0, 64}) {
    for (const std::int64_t q_len : {2, 4, 8, 16, 32, 64}) {
      cases.push_back(make_case("causal", {decoding(4100, q_len), decoding(700, q_len)}, 32, 8, 128,
                                page_size));
      cases.push_back(make_case("upto(block(32))", {decoding(4096, q_len)}, 8, 2, 64, page_size));
    }
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, HeadsOfAGroupShareRows) {
  std::vector<AttentionCase> cases;
  for (const int group : {1, 2, 3, 4, 7, 8, 16, 64}) {
    cases.push_back(make_case("causal", {decoding(1500), decoding(800, 5)}, 2 * group, 2, 64, 64));
    cases.push_back(make_case("causal", {decoding(1500), decoding(800, 5)}, group, 1, 128));
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, LongPrefixesManySequencesAndPromptsOverPages) {
  std::vector<AttentionCase> cases;
  cases.push_back(make_case("causal", {decoding(40000)}, 8, 2, 128, 64));
  std::vector<SequenceShape> many;
  for (std::int64_t s = 0; s < 60; ++s) many.push_back(decoding(1 + 37 * s));
  cases.push_back(make_case("causal", many, 8, 2, 128, 64));
  cases.push_back(make_case("causal", {decoding(1000, 1000), decoding(900), decoding(700, 260)}, 4,
                            2, 128, 64));
  expect_right(cases);
}

// Sequences with few rows and such with many run by two kernels of one call.
TEST_F(DecodeCuda, FewAndManyRowsInOneBatch) {
  std::vector<AttentionCase> cases;
  for (const char* mask : {"causal", "causal & (sink(64) | window(300))"}) {
    cases.push_back(make_case(
        mask, {decoding(3000), decoding(700, 700), decoding(40), decoding(1200, 20), {300, 500, 0}},
        8, 2, 128));
    // A sequence without queries is no kernel's.
    cases.push_back(make_case(mask, {{0, 800, 0}, decoding(700, 700)}, 4, 2, 128));
    cases.push_back(make_case(mask, {{0, 800, 0}, decoding(700), {0, 3, 0}}, 4, 2, 128));
  }
  expect_right(cases);
}

TEST_F(DecodeCuda, ChangedScores) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {64, 128, 256}) {
    for (const char* mask : {"all", "causal & (sink(16) | window(700))", "causal & every(16, 4)"}) {
      for (int change = 1; change < 8; ++change) {
        AttentionCase c = make_case(mask, {decoding(1300, 3), decoding(90)}, 4, 2, head_dim, 64);
        if ((change & 1) != 0) c.soft_cap = 5;
        if ((change & 2) != 0) c.alibi = true;
        if ((change & 4) != 0) c.scale = -0.2F;
        cases.push_back(c);
      }
    }
  }
  expect_right(cases);
}

// A small case for each kernel: what tools/gpu.sh runs under compute-sanitizer.
TEST_F(DecodeCuda, EveryKernel) {
  std::vector<AttentionCase> cases;
  for (const std::int64_t head_dim : {24, 64, 96, 128, 192, 256}) {
    // A list that is cut and added up, one that is not, gathers and bitmaps.
    cases.push_back(make_case("causal", {decoding(1500), decoding(70, 5)}, 4, 1, head_dim, 64));
    cases.push_back(make_case("causal & (sink(16) | window(90))", {decoding(700, 3), decoding(1)},
                              2, 2, head_dim, 16));
    AttentionCase changed = make_case("all", {decoding(700)}, 2, 2, head_dim);
    changed.alibi = true;
    changed.soft_cap = 5;
    cases.push_back(changed);
  }
  cases.push_back(make_case("causal", {decoding(700), decoding(300, 300)}, 2, 1, 128));
  for (const AttentionCase& c : cases) {
    AttentionCall call(c);
    const std::string found = faults_of(call, run(call, threads_), threads_);
    EXPECT_TRUE(found.empty()) << c << found;
  }
}

// The first sequence alone has few steps of one part only, the batch has many: another kernel may
// suit it better then, but its bits must not tell.
TEST_F(DecodeCuda, BatchMatesThatSkipPartsChangeNoBit) {
  std::vector<AttentionCase> cases;
  for (const char* mask : {"same(copy(114)) & causal", "same(block(64)) & causal"}) {
    for (const std::int64_t head_dim : {64, 80, 128, 192, 256}) {
      AttentionCase c = make_case(mask, {{111, 109, 0}, {17, 126, 274}}, 2, 2, head_dim);
      for (const bool alibi : {false, true}) {
        c.alibi = alibi;
        cases.push_back(c);
      }
    }
  }
  expect_right(cases);
}

// Operands on the GPU for the steps of a decode loop: pages of the longest sequences.
class PlanOfSteps {
 public:
  PlanOfSteps(const AttentionBackend& backend, const AttentionCase& longest)
      : backend_(backend),
        call_(longest),
        outputs_(call_.outputs()),
        copies_(backend),
        args_(call_.arguments(outputs_)) {
    for (TensorView* view :
         {&args_.q, &args_.k, &args_.v, &args_.o, &args_.lse, &args_.q_indptr, &args_.page_table}) {
      *view = copies_.copy(*view);
    }
    cuda_check(cudaStreamCreate(&stream_), "test");
  }
  ~PlanOfSteps() { (void)cudaStreamDestroy(stream_); }
  PlanOfSteps(const PlanOfSteps&) = delete;
  PlanOfSteps& operator=(const PlanOfSteps&) = delete;

  Schedule schedule(const std::vector<SequenceShape>& sequences) const {
    AttentionCase c = call_.attention_case();
    c.shape.sequences = sequences;
    return plan(c, backend_.table).rows;
  }
  const AttentionArgs& args() const { return args_; }
  Stream stream() const { return {nullptr, stream_}; }
  cudaStream_t cuda_stream() const { return stream_; }

  // What is in the outputs now.
  std::pair<std::vector<std::byte>, std::vector<std::byte>> result() {
    cuda_check(cudaStreamSynchronize(stream_), "test");
    copies_.bring_back();
    std::pair<std::vector<std::byte>, std::vector<std::byte>> bytes;
    for (std::size_t s = 0; s < outputs_.o.lengths().size(); ++s) {
      std::ranges::copy(outputs_.o.row_bytes(s), std::back_inserter(bytes.first));
      std::ranges::copy(outputs_.lse.row_bytes(s), std::back_inserter(bytes.second));
    }
    return bytes;
  }

 private:
  const AttentionBackend& backend_;
  AttentionCall call_;
  AttentionOutputs outputs_;
  DeviceCopies copies_;
  AttentionArgs args_;
  cudaStream_t stream_ = nullptr;
};

TEST_F(DecodeCuda, ACapturedLaunchRunsTheScheduleOfTheStep) {
  const std::vector<SequenceShape> longest = {decoding(3000), decoding(3000), decoding(3000)};
  for (const char* mask :
       {"causal", "causal & (sink(64) | window(700))", "causal & every(16, 4)"}) {
    PlanOfSteps steps(backend_, make_case(mask, longest, 8, 2, 128, 64));
    const AttentionSpec spec{DType::kBF16, DType::kBF16, 128, true};
    const Schedule most = steps.schedule(longest);
    const auto plan =
        make_attention_plan(spec, plan_capacity(spec, most, backend_.device), backend_.device);
    plan->update(most, steps.stream());
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t captured = nullptr;
    cuda_check(cudaStreamBeginCapture(steps.cuda_stream(), cudaStreamCaptureModeGlobal), "test");
    attention_forward(steps.args(), *plan, steps.stream());
    EXPECT_THROW(plan->update(most, steps.stream()), InvalidArgument);
    cuda_check(cudaStreamEndCapture(steps.cuda_stream(), &graph), "test");
    cuda_check(cudaGraphInstantiate(&captured, graph, 0), "test");
    for (std::int64_t length = 1; length <= 3000; length += 271) {
      const Schedule schedule =
          steps.schedule({decoding(length), decoding(3001 - length), decoding(1 + length / 2)});
      attention_forward(steps.args(), schedule, steps.stream());
      const auto expected = steps.result();
      // Nothing of the call before may be taken for the graph's.
      cuda_check(cudaMemset(steps.args().o.data, 0xff, expected.first.size()), "test");
      plan->update(schedule, steps.stream());
      cuda_check(cudaGraphLaunch(captured, steps.cuda_stream()), "test");
      EXPECT_EQ(steps.result(), expected) << mask << " at " << length;
      attention_forward(steps.args(), *plan, steps.stream());
      EXPECT_EQ(steps.result(), expected) << mask << " at " << length;
    }
    // Copies that follow each other closely do not overwrite what is still being copied.
    std::vector<Schedule> schedules;
    for (std::int64_t i = 0; i < 8; ++i)
      schedules.push_back(steps.schedule({decoding(300 * i + 7), decoding(55), decoding(2900)}));
    attention_forward(steps.args(), schedules.back(), steps.stream());
    const auto expected = steps.result();
    for (const Schedule& schedule : schedules) {
      plan->update(schedule, steps.stream());
      cuda_check(cudaGraphLaunch(captured, steps.cuda_stream()), "test");
    }
    EXPECT_EQ(steps.result(), expected) << mask;
    cuda_check(cudaGraphExecDestroy(captured), "test");
    cuda_check(cudaGraphDestroy(graph), "test");
  }
}

TEST_F(DecodeCuda, APlanRefusesWhatItHasNoRoomFor) {
  const std::vector<SequenceShape> longest = {decoding(1000)};
  PlanOfSteps steps(backend_, make_case("causal", longest, 8, 2, 128, 64));
  const AttentionSpec spec{DType::kBF16, DType::kBF16, 128, true};
  const Schedule most = steps.schedule(longest);
  const auto plan =
      make_attention_plan(spec, plan_capacity(spec, most, backend_.device), backend_.device);
  EXPECT_THROW(attention_forward(steps.args(), *plan, steps.stream()), InvalidArgument);
  plan->update(most, steps.stream());
  EXPECT_THROW(plan->update(steps.schedule({decoding(100000)}), steps.stream()), InvalidArgument);
  const std::vector<SequenceShape> many(20, decoding(900));
  EXPECT_THROW(plan->update(steps.schedule(many), steps.stream()), InvalidArgument);
  // It still runs what it had.
  attention_forward(steps.args(), most, steps.stream());
  const auto expected = steps.result();
  attention_forward(steps.args(), *plan, steps.stream());
  EXPECT_EQ(steps.result(), expected);
  AttentionArgs not_paged = steps.args();
  not_paged.page_table = {};
  EXPECT_THROW(plan->forward(not_paged, steps.stream()), InvalidArgument);
}

// A schedule that is kept serves many streams at a time, and a captured graph.
TEST_F(DecodeCuda, StreamsAndGraphsShareASchedule) {
  const AttentionCase c = make_case("causal", {decoding(5000), decoding(1700)}, 8, 2, 128, 64);
  constexpr int kStreams = 4;
  std::vector<std::unique_ptr<PlanOfSteps>> streams;
  for (int i = 0; i < kStreams; ++i) streams.push_back(std::make_unique<PlanOfSteps>(backend_, c));
  const Schedule schedule = streams.front()->schedule(c.shape.sequences);
  attention_forward(streams.front()->args(), schedule, streams.front()->stream());
  const auto expected = streams.front()->result();
  PlanOfSteps& last = *streams.back();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t captured = nullptr;
  cuda_check(cudaStreamBeginCapture(last.cuda_stream(), cudaStreamCaptureModeGlobal), "test");
  attention_forward(last.args(), schedule, last.stream());
  cuda_check(cudaStreamEndCapture(last.cuda_stream(), &graph), "test");
  cuda_check(cudaGraphInstantiate(&captured, graph, 0), "test");
  for (int i = 0; i < 20; ++i) {
    for (int s = 0; s + 1 < kStreams; ++s) {
      attention_forward(streams[static_cast<std::size_t>(s)]->args(), schedule,
                        streams[static_cast<std::size_t>(s)]->stream());
    }
    cuda_check(cudaGraphLaunch(captured, last.cuda_stream()), "test");
  }
  for (const auto& stream : streams) EXPECT_EQ(stream->result(), expected);
  cuda_check(cudaGraphExecDestroy(captured), "test");
  cuda_check(cudaGraphDestroy(graph), "test");
}

// Cases of the campaign with few queries, in the types of the kernels, mostly over pages.
AttentionCase random_decode_case(Random& random) {
  AttentionCase c = random_attention_case(random);
  c.q_dtype = c.kv_dtype = random.next_below(2) == 0 ? DType::kBF16 : DType::kF16;
  c.page_size = static_cast<std::int64_t>(16 * random.next_below(17));
  c.layout.ragged = true;
  if (random.next_below(8) != 0) {
    c.head_dim = round_up(c.head_dim, 8);
    c.layout.gap = 0;
  }
  return c;
}

TEST_F(DecodeCuda, RandomCases) {
  expect_no_faults(Campaign(1000), threads_, [&](Random& random, ThreadPool& one_thread) {
    const AttentionCase c = random_decode_case(random);
    const std::string found = faults(c, one_thread);
    return found.empty() ? found : concat(c, found);
  });
}

}  // namespace
}  // namespace perpend
