// Attention of this build for programs that have GPU memory and a stream of their own, such as
// compare_gpu.py: a C interface, so that a Python process with PyTorch can load it with ctypes.
// Every function returns 0, or 1 with the reason in perpend_error().

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

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
    const auto& known = *static_cast<const Plan*>(plan);
    perpend::attention_backward(args, known.rows, known.columns, {nullptr, operands->stream});
  });
}

}  // extern "C"
