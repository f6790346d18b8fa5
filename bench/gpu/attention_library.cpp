// Attention of this build for programs that have GPU memory and a stream of their own, such as
// compare_gpu.py: a C interface, so that a Python process with PyTorch can load it with ctypes.
// Every function returns 0, or 1 with the reason in perpend_error().

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "perpend/core/range.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

struct Plan {
  Schedule rows;
  Schedule columns;
  double plan_ms = 0;
  ScheduleCost cost;
};

thread_local std::string last_error;

template <class Body>
int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

DType type_of(int is_f16) { return is_f16 != 0 ? DType::kF16 : DType::kBF16; }

}  // namespace
}  // namespace perpend

using perpend::Plan;

extern "C" {

struct PerpendProblem {
  std::int64_t batch;
  std::int64_t tokens;
  std::int64_t head_dim;
  int num_q_heads;
  int num_kv_heads;
  int is_f16;
  int deterministic;  // gradients, and the next
  int in_turns;
};

// All of dtype f16 or bf16, [batch, heads, tokens, head_dim], dense; lse f32 [batch, heads,
// tokens]. The last four are for the gradients alone.
struct PerpendOperands {
  void* q;
  void* k;
  void* v;
  void* o;
  void* lse;
  void* stream;
  void* d_o;
  void* dq;
  void* dk;
  void* dv;
};

struct PerpendCost {
  double plan_ms;
  double live_pairs;
  double computed_pairs;
  std::int64_t items;
  std::int64_t full_tiles;
  std::int64_t partial_tiles;
  std::int64_t half_skipped;
  std::int64_t gathered;
};

// A step of a decode loop: the last q_len positions of each sequence of kv_len tokens.
struct PerpendDecodeProblem {
  std::int64_t batch;
  std::int64_t q_len;
  std::int64_t kv_len;
  std::int64_t num_pages;
  std::int64_t page_size;
  std::int64_t head_dim;
  int num_q_heads;
  int num_kv_heads;
  int is_f16;
};

// q, o [batch, q_len, num_q_heads, head_dim]; k, v [num_pages, num_kv_heads, page_size, head_dim];
// lse f32 [batch, num_q_heads, q_len]; page_table i32 [batch, pages of kv_len].
struct PerpendDecodeOperands {
  void* q;
  void* k;
  void* v;
  void* o;
  void* lse;
  void* page_table;
  void* stream;
};

}  // extern "C"

namespace perpend {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};

TensorView view_of(const PerpendProblem& problem, void* data, int heads) {
  const std::int64_t dim = problem.head_dim;
  return {data,
          type_of(problem.is_f16),
          {problem.batch, problem.tokens, heads, dim},
          {heads * problem.tokens * dim, dim, problem.tokens * dim, 1},
          kGpu};
}

AttentionArgs forward_args(const PerpendProblem& problem, const PerpendOperands& operands) {
  AttentionArgs args;
  args.q = view_of(problem, operands.q, problem.num_q_heads);
  args.k = view_of(problem, operands.k, problem.num_kv_heads);
  args.v = view_of(problem, operands.v, problem.num_kv_heads);
  args.o = view_of(problem, operands.o, problem.num_q_heads);
  args.lse = TensorView::dense(operands.lse, DType::kF32,
                               {problem.batch, problem.num_q_heads, problem.tokens}, kGpu);
  return args;
}

AttentionSpec spec_of(const PerpendDecodeProblem& problem) {
  const DType dtype = type_of(problem.is_f16);
  return {dtype, dtype, problem.head_dim, /*paged=*/true};
}

// Each sequence `apart` keys shorter than the one before it.
Schedule schedule_of(const PerpendDecodeProblem& problem, const char* mask, int apart) {
  AttentionShape shape{{}, problem.num_q_heads, problem.num_kv_heads};
  for (std::int64_t s = 0; s < problem.batch; ++s) {
    const std::int64_t kv_len = problem.kv_len - s * apart;
    shape.sequences.push_back({problem.q_len, kv_len, kv_len - problem.q_len});
  }
  return compile(parse_mask(mask), shape,
                 cuda_kernels().attention.tiling(spec_of(problem), Sweep::kRows));
}

AttentionArgs decode_args(const PerpendDecodeProblem& problem,
                          const PerpendDecodeOperands& operands) {
  const DType dtype = type_of(problem.is_f16);
  const auto queries = [&](void* data) {
    return TensorView::dense(
        data, dtype, {problem.batch, problem.q_len, problem.num_q_heads, problem.head_dim}, kGpu);
  };
  const auto pages = [&](void* data) {
    const std::int64_t dim = problem.head_dim;
    const std::int64_t heads = problem.num_kv_heads;
    return TensorView{data,
                      dtype,
                      {problem.num_pages, problem.page_size, heads, dim},
                      {heads * problem.page_size * dim, dim, problem.page_size * dim, 1},
                      kGpu};
  };
  AttentionArgs args;
  args.q = queries(operands.q);
  args.k = pages(operands.k);
  args.v = pages(operands.v);
  args.o = queries(operands.o);
  args.lse = TensorView::dense(operands.lse, DType::kF32,
                               {problem.batch, problem.num_q_heads, problem.q_len}, kGpu);
  args.page_table =
      TensorView::dense(operands.page_table, DType::kI32,
                        {problem.batch, ceil_div(problem.kv_len, problem.page_size)}, kGpu);
  return args;
}

}  // namespace
}  // namespace perpend

extern "C" {

const char* perpend_error() { return perpend::last_error.c_str(); }

int perpend_plan(const PerpendProblem* problem, const char* mask, const char* labels, void** plan) {
  return perpend::guarded([&] {
    const perpend::Mask bound = perpend::parse_mask(mask).bind(perpend::parse_bindings(labels));
    const perpend::DType dtype = perpend::type_of(problem->is_f16);
    const perpend::AttentionShape shape{
        std::vector<perpend::SequenceShape>(static_cast<std::size_t>(problem->batch),
                                            {problem->tokens, problem->tokens, 0}),
        problem->num_q_heads, problem->num_kv_heads};
    const auto& table = perpend::cuda_kernels().attention;
    const perpend::AttentionSpec spec{dtype, dtype, problem->head_dim};
    auto made = std::make_unique<Plan>();
    const auto start = std::chrono::steady_clock::now();
    made->rows = perpend::compile(bound, shape, table.tiling(spec, perpend::Sweep::kRows));
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    made->plan_ms = time.count();
    made->cost = perpend::cost_of(made->rows);
    made->columns = perpend::compile(bound, shape, table.tiling(spec, perpend::Sweep::kColumns),
                                     perpend::Sweep::kColumns);
    *plan = made.release();
  });
}

void perpend_free_plan(void* plan) { delete static_cast<Plan*>(plan); }

void perpend_cost(const void* plan, PerpendCost* cost) {
  const auto& known = *static_cast<const Plan*>(plan);
  *cost = {known.plan_ms,
           static_cast<double>(known.cost.live_pairs),
           static_cast<double>(known.cost.computed_pairs),
           static_cast<std::int64_t>(known.rows.items.size()),
           known.cost.full_tiles,
           known.cost.partial_tiles,
           known.cost.half_skipped,
           known.cost.gathered};
}

int perpend_forward(const void* plan, const PerpendProblem* problem,
                    const PerpendOperands* operands) {
  return perpend::guarded([&] {
    perpend::attention_forward(perpend::forward_args(*problem, *operands),
                               static_cast<const Plan*>(plan)->rows, {nullptr, operands->stream});
  });
}

int perpend_decode_plan(const PerpendDecodeProblem* problem, const char* mask, void* stream,
                        void** plan) {
  return perpend::guarded([&] {
    const perpend::Schedule schedule = perpend::schedule_of(*problem, mask, 0);
    const perpend::AttentionSpec spec = perpend::spec_of(*problem);
    auto made = perpend::make_attention_plan(
        spec, perpend::plan_capacity(spec, schedule, perpend::kGpu), perpend::kGpu);
    made->update(schedule, {nullptr, stream});
    *plan = made.release();
  });
}

void perpend_free_decode_plan(void* plan) { delete static_cast<perpend::AttentionPlan*>(plan); }

// What a step costs the host: compiling, cutting and copying its schedule, in milliseconds. Each
// sequence is `apart` keys shorter than the one before it.
int perpend_decode_update(void* plan, const PerpendDecodeProblem* problem, const char* mask,
                          int apart, void* stream, double* ms) {
  return perpend::guarded([&] {
    const auto start = std::chrono::steady_clock::now();
    static_cast<perpend::AttentionPlan*>(plan)->update(perpend::schedule_of(*problem, mask, apart),
                                                       {nullptr, stream});
    *ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  });
}

int perpend_decode(const void* plan, const PerpendDecodeProblem* problem,
                   const PerpendDecodeOperands* operands) {
  return perpend::guarded([&] {
    perpend::attention_forward(perpend::decode_args(*problem, *operands),
                               *static_cast<const perpend::AttentionPlan*>(plan),
                               {nullptr, operands->stream});
  });
}

// After perpend_forward().
int perpend_backward(const void* plan, const PerpendProblem* problem,
                     const PerpendOperands* operands) {
  return perpend::guarded([&] {
    perpend::AttentionGradArgs args;
    args.forward = perpend::forward_args(*problem, *operands);
    args.d_o = perpend::view_of(*problem, operands->d_o, problem->num_q_heads);
    args.dq = perpend::view_of(*problem, operands->dq, problem->num_q_heads);
    args.dk = perpend::view_of(*problem, operands->dk, problem->num_kv_heads);
    args.dv = perpend::view_of(*problem, operands->dv, problem->num_kv_heads);
    args.deterministic = problem->deterministic != 0;
    args.in_turns = problem->in_turns != 0;
    const auto& known = *static_cast<const Plan*>(plan);
    perpend::attention_backward(args, known.rows, known.columns, {nullptr, operands->stream});
  });
}

}  // extern "C"
