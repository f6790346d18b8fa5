// Attention planned on a GPU from lists of blocks, against the f64 reference of the same mask.
// PERPEND_CAMPAIGN_SEED, _CASES and _CASE choose the random cases. Skips on a machine without a
// GPU.

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/kernels/reference/backends.h"
#include "perpend/kernels/reference/device_copies.h"
#include "tests/kernels/cuda/block_case.h"
#include "tests/parallel_campaign.h"

namespace perpend {
namespace {

class BlockListsCuda : public testing::Test {
 protected:
  void SetUp() override {
    for (const AttentionBackend& backend : attention_backends()) {
      if (backend.device.type == DeviceType::kCuda) backend_ = backend;
    }
    if (!backend_) GTEST_SKIP() << "no CUDA device";
  }

  static AttentionArgs copied(AttentionArgs args, DeviceCopies& copies) {
    for (TensorView* view :
         {&args.q, &args.k, &args.v, &args.o, &args.lse, &args.score.alibi_slopes}) {
      *view = copies.copy(*view);
    }
    return args;
  }

  static AttentionGradArgs copied(AttentionGradArgs args, DeviceCopies& copies) {
    args.forward = copied(args.forward, copies);
    for (TensorView* view : {&args.d_o, &args.d_lse, &args.dq, &args.dk, &args.dv}) {
      *view = copies.copy(*view);
    }
    return args;
  }

  AttentionOutputs run(BlockAttentionPlan& plan, BlockCase& c, AttentionCall& call) const {
    AttentionOutputs outputs = call.outputs();
    DeviceCopies copies(*backend_);
    const AttentionGradArgs args = copied(call.gradient_arguments(outputs), copies);
    plan.update(copies.copy(c.indices_view()), copies.copy(c.counts_view()), {});
    attention_forward(args.forward, plan, {});
    if (c.spec.gradients) attention_backward(args, plan, {});
    cuda_check(cudaDeviceSynchronize(), "test");
    copies.bring_back();
    return outputs;
  }

  // Empty, or what is wrong.
  static std::string faults(const AttentionCall& call, const AttentionOutputs& outputs,
                            bool gradients, ThreadPool& threads) {
    const double most_of_o = call.attention_case().q_dtype == DType::kBF16 ? 5e-3 : 1e-3;
    std::string result;
    for (const Deviation& d : AttentionExpectation(call, gradients, threads).compare(outputs)) {
      const double most = d.output == AttentionOutput::kO ? most_of_o : 2 * most_of_o;
      const bool is_close = d.output == AttentionOutput::kLse || d.total_error < most;
      if (!d.holds() || !is_close) {
        result +=
            concat("\n  ", call.attention_case(), "\n  ", d, "\n  total error ", d.total_error);
      }
    }
    return result;
  }

  // With other lists each time, each twice.
  std::string faults(BlockCase& c, Random& random, bool alibi, ThreadPool& threads,
                     bool deterministic = true) const {
    const auto plan = make_block_attention_plan(c.spec, backend_->device);
    std::string result;
    for (int i = 0; i < 2; ++i) {
      fill_lists(c, random);
      AttentionCase mask = c.attention_case();
      mask.alibi = alibi;
      mask.deterministic = deterministic;
      AttentionCall call(mask);
      const AttentionOutputs outputs = run(*plan, c, call);
      result += faults(call, outputs, c.spec.gradients, threads);
      if (!deterministic) continue;
      const AttentionOutputs again = run(*plan, c, call);
      for (std::size_t s = 0; s < outputs.o.lengths().size(); ++s) {
        const auto equal = [&](const Operand& a, const Operand& b) {
          return a.row_bytes(s) == b.row_bytes(s);
        };
        if (equal(outputs.o, again.o) && equal(outputs.dq, again.dq) &&
            equal(outputs.dk, again.dk) && equal(outputs.dv, again.dv)) {
          continue;
        }
        result +=
            concat("\n  ", call.attention_case(), "\n  sequence ", s, " differs between two runs");
      }
    }
    return result;
  }
  void expect_right(BlockCase& c, Random& random, bool alibi = false) {
    EXPECT_EQ(faults(c, random, alibi, threads_), "");
  }

  std::optional<AttentionBackend> backend_;
  ThreadPool threads_;
};

BlockAttentionSpec spec_of(std::int64_t tokens, std::int64_t head_dim, DType dtype) {
  BlockAttentionSpec spec;
  spec.attention = {dtype, dtype, head_dim, false};
  spec.q_len = spec.kv_len = tokens;
  return spec;
}

TEST_F(BlockListsCuda, EveryHeadDimTypeAndBlock) {
  std::vector<BlockCase> cases;
  for (const std::int64_t head_dim : {64, 72, 128, 192, 256}) {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      for (const std::int64_t kv_block : {16, 32, 64, 128, 256}) {
        for (const bool causal : {false, true}) {
          BlockCase c{spec_of(700, head_dim, dtype), {}, {}};
          c.spec.kv_block = kv_block;
          c.spec.q_block = kv_block % 64 == 0 ? 64 : 128;
          c.spec.num_q_heads = c.spec.num_kv_heads = c.spec.num_list_heads = 2;
          c.spec.max_blocks = std::max<std::int64_t>(c.spec.num_kv_blocks() / 2, 1);
          c.spec.causal = causal;
          cases.push_back(std::move(c));
        }
      }
    }
  }
  threads_.parallel_for(static_cast<std::int64_t>(cases.size()), 1, [&](Range range) {
    ThreadPool one_thread(1);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      Random random(1, static_cast<std::uint64_t>(i));
      EXPECT_EQ(faults(cases[static_cast<std::size_t>(i)], random, false, one_thread), "");
    }
  });
}

// Blocks of queries and keys of every kind; both passes, and one that does both.
TEST_F(BlockListsCuda, Gradients) {
  std::vector<BlockCase> cases;
  for (const std::int64_t head_dim : {32, 64, 128, 192}) {
    for (const std::int64_t kv_block : {16, 32, 64, 128}) {
      for (const std::int64_t q_block : {16, 64, 128, 200}) {
        BlockCase c{spec_of(500, head_dim, DType::kBF16), {}, {}};
        c.spec.batch = 2;
        c.spec.q_block = q_block;
        c.spec.kv_block = head_dim == 192 ? std::min<std::int64_t>(kv_block, 64) : kv_block;
        c.spec.num_q_heads = 4;
        c.spec.num_kv_heads = 2;
        c.spec.num_list_heads = q_block == 16 ? 2 : q_block == 200 ? 1 : 4;
        c.spec.max_blocks = std::max<std::int64_t>(c.spec.num_kv_blocks() / 2, 1);
        c.spec.causal = kv_block != 64;
        c.spec.gradients = true;
        cases.push_back(std::move(c));
      }
    }
  }
  threads_.parallel_for(static_cast<std::int64_t>(cases.size()), 1, [&](Range range) {
    ThreadPool one_thread(1);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      Random random(6, static_cast<std::uint64_t>(i));
      BlockCase& c = cases[static_cast<std::size_t>(i)];
      EXPECT_EQ(faults(c, random, false, one_thread), "");
      EXPECT_EQ(faults(c, random, false, one_thread, false), "");
    }
  });
}

TEST_F(BlockListsCuda, ChangedScores) {
  Random random(2);
  for (const std::int64_t head_dim : {64, 128, 256}) {
    for (const std::int64_t q_block : {64, 128}) {
      BlockCase c{spec_of(500, head_dim, DType::kBF16), {}, {}};
      c.spec.q_block = q_block;
      c.spec.kv_block = 32;
      c.spec.max_blocks = 6;
      c.spec.causal = true;
      c.spec.changes_scores = true;
      c.spec.gradients = true;
      expect_right(c, random, true);
    }
  }
}

TEST_F(BlockListsCuda, LongLists) {
  Random random(3);
  BlockCase c{spec_of(4000, 128, DType::kBF16), {}, {}};
  c.spec.q_len = 300;
  c.spec.max_blocks = 30;
  c.spec.gradients = true;
  expect_right(c, random);
  c.spec.kv_block = 16;
  c.spec.max_blocks = 200;
  c.spec.q_block = 64;
  expect_right(c, random);
}

// A small case for each kernel: what tools/gpu.sh runs under compute-sanitizer.
TEST_F(BlockListsCuda, EveryKernel) {
  Random random(6);
  for (const std::int64_t head_dim : {64, 128}) {
    for (const std::int64_t q_block : {64, 128}) {
      BlockCase c{spec_of(200, head_dim, DType::kBF16), {}, {}};
      c.spec.q_block = q_block;
      c.spec.kv_block = 32;
      c.spec.max_blocks = 4;
      c.spec.gradients = true;
      c.spec.causal = q_block == 64;
      expect_right(c, random);
    }
  }
}

// A graph runs whatever the lists hold when it is launched.
TEST_F(BlockListsCuda, GraphsTakeNewLists) {
  for (const std::int64_t q_block : {64, 128}) {
    BlockCase c{spec_of(900, 128, DType::kBF16), {}, {}};
    c.spec.q_block = q_block;
    c.spec.kv_block = 64;
    c.spec.num_q_heads = c.spec.num_kv_heads = 2;
    c.spec.max_blocks = 7;
    c.spec.gradients = true;
    Random random(4);
    fill_lists(c, random);
    const auto plan = make_block_attention_plan(c.spec, backend_->device);
    AttentionCall operands(c.attention_case());
    AttentionOutputs outputs = operands.outputs();
    DeviceCopies copies(*backend_);
    const AttentionGradArgs args = copied(operands.gradient_arguments(outputs), copies);
    const TensorView indices = copies.copy(c.indices_view());
    const TensorView counts = copies.copy(c.counts_view());
    cudaStream_t stream = nullptr;
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "test");
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "test");
    plan->update(indices, counts, {nullptr, stream});
    attention_forward(args.forward, *plan, {nullptr, stream});
    attention_backward(args, *plan, {nullptr, stream});
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t captured = nullptr;
    cuda_check(cudaStreamEndCapture(stream, &graph), "test");
    cuda_check(cudaGraphInstantiate(&captured, graph, 0), "test");
    for (int i = 0; i < 4; ++i) {
      fill_lists(c, random);
      backend_->memory.upload(indices.data, c.block_indices.data(),
                              c.block_indices.size() * sizeof(std::int32_t));
      backend_->memory.upload(counts.data, c.num_blocks.data(),
                              c.num_blocks.size() * sizeof(std::int32_t));
      cuda_check(cudaDeviceSynchronize(), "test");
      cuda_check(cudaGraphLaunch(captured, stream), "test");
      cuda_check(cudaStreamSynchronize(stream), "test");
      copies.bring_back();
      EXPECT_EQ(faults(AttentionCall(c.attention_case()), outputs, true, threads_), "");
    }
    cuda_check(cudaGraphExecDestroy(captured), "test");
    cuda_check(cudaGraphDestroy(graph), "test");
    cuda_check(cudaStreamDestroy(stream), "test");
  }
}

TEST_F(BlockListsCuda, CallsThatDoNotFitThePlan) {
  BlockCase c{spec_of(200, 64, DType::kBF16), {}, {}};
  c.spec.max_blocks = 2;
  Random random(5);
  fill_lists(c, random);
  const auto plan = make_block_attention_plan(c.spec, backend_->device);
  AttentionCall call(c.attention_case());
  AttentionOutputs outputs = call.outputs();
  DeviceCopies copies(*backend_);
  AttentionArgs args = copied(call.arguments(outputs), copies);
  EXPECT_THROW(attention_forward(args, *plan, {}), InvalidArgument) << "no lists yet";
  EXPECT_THROW(plan->update(c.indices_view(), {}, {}), InvalidArgument) << "not on the device";
  const TensorView indices = copies.copy(c.indices_view());
  TensorView fewer = indices;
  fewer.shape[3] = 1;
  EXPECT_THROW(plan->update(fewer, {}, {}), InvalidArgument);
  plan->update(indices, {}, {});
  EXPECT_THROW(attention_backward(call.gradient_arguments(outputs), *plan, {}), InvalidArgument);
  args.score.soft_cap = 5;
  EXPECT_THROW(attention_forward(args, *plan, {}), InvalidArgument);
  cuda_check(cudaDeviceSynchronize(), "test");
}

TEST_F(BlockListsCuda, RandomCases) {
  expect_no_faults(Campaign(150), threads_, [&](Random& random, ThreadPool& one_thread) {
    const std::int64_t head_dim = 8 * (1 + static_cast<std::int64_t>(random.next_below(32)));
    BlockCase c{random_block_spec(random, head_dim), {}, {}};
    c.spec.gradients = random.next_below(2) == 0;
    const bool alibi = c.spec.changes_scores && random.next_below(2) == 0;
    return faults(c, random, alibi, one_thread, random.next_below(3) > 0);
  });
}

}  // namespace
}  // namespace perpend
