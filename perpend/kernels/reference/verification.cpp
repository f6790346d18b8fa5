#include "perpend/kernels/reference/verification.h"

#include <algorithm>
#include <array>

#include "perpend/kernels/reference/backends.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

// From worst to best rounding, so that the first lines of a report are those to look at.
constexpr std::array kDtypes = {DType::kBF16, DType::kF16, DType::kF32, DType::kF64};

// In steps of a few nanoseconds: every pair is looked at, every live pair costs 2 * head_dim steps.
constexpr double kMaxSteps = 2e11;
constexpr double kStepsOfAPair = 20;

double reference_steps(const AttentionCase& c, double density) {
  double pairs = 0;
  for (const SequenceShape& s : c.shape.sequences) {
    pairs += static_cast<double>(s.q_len) * static_cast<double>(s.kv_len);
  }
  return pairs * c.shape.num_q_heads *
         (kStepsOfAPair + density * 2 * static_cast<double>(c.head_dim)) * kDtypes.size();
}

bool same_bits(const AttentionOutputs& a, const AttentionOutputs& b) {
  for (std::size_t s = 0; s < a.o.lengths().size(); ++s) {
    const auto same = [&](const Operand& x, const Operand& y) {
      return x.row_bytes(s) == y.row_bytes(s);
    };
    if (!(same(a.o, b.o) && same(a.lse, b.lse) && same(a.dq, b.dq) && same(a.dk, b.dk) &&
          same(a.dv, b.dv))) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool BackendVerdict::holds() const {
  return bits_equal && std::all_of(deviations.begin(), deviations.end(),
                                   [](const Deviation& d) { return d.holds(); });
}

bool Verification::holds() const {
  return rows_fault.empty() && columns_fault.empty() && !verdicts.empty() &&
         std::all_of(verdicts.begin(), verdicts.end(),
                     [](const BackendVerdict& v) { return v.holds(); });
}

Verification verify_attention(const AttentionCase& c, ThreadPool& threads) {
  const std::vector<AttentionBackend> backends = attention_backends();
  const AttentionTable& best = cpu_kernels().attention;
  const Schedule rows = compile(c.masks, c.shape, best.tiling(c.spec(), Sweep::kRows));
  Verification result;
  result.density = cost_of(rows).density();
  const double steps = reference_steps(c, result.density);
  check(steps <= kMaxSteps,
        concat("verify: the reference looks at every pair of every head, ", steps / kMaxSteps,
               " times as much as would end in minutes; take fewer heads, or part of the queries "
               "over all keys (--q 64 --q-offset N)"));
  result.rows_fault = verify(rows, c.masks);
  result.columns_fault = verify(
      compile(c.masks, c.shape, best.tiling(c.spec(), Sweep::kColumns), Sweep::kColumns), c.masks);
  ThreadPool one(1);
  for (const DType dtype : kDtypes) {
    AttentionCase typed = c;
    typed.q_dtype = typed.kv_dtype = dtype;
    AttentionCall call(typed);
    std::optional<AttentionExpectation> forward;
    std::optional<AttentionExpectation> both;
    for (const AttentionBackend& backend : backends) {
      if (!backend.table.supports(typed.spec())) continue;
      const AttentionPlans plans = plan(typed, backend.table);
      const bool has_backward = plans.columns.has_value();
      auto& expectation = has_backward ? both : forward;
      if (!expectation) expectation.emplace(call, has_backward, threads);
      const AttentionOutputs outputs = call.run(backend, plans, threads);
      result.verdicts.push_back({backend.name, dtype, has_backward, expectation->compare(outputs),
                                 same_bits(outputs, call.run(backend, plans, one))});
    }
  }
  return result;
}

}  // namespace perpend
