// Attention on everything this machine has against the f64 reference, forward and backward, over
// random masks, shapes, types and layouts. PERPEND_CAMPAIGN_SEED (./test sets it from the commit)
// chooses the cases, PERPEND_CAMPAIGN_CASES their number; a failure names its case, which
// PERPEND_CAMPAIGN_CASE runs alone.

#include <mutex>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/kernels/reference/backends.h"
#include "tests/parallel_campaign.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

constexpr std::uint64_t kNumVariations = 8;

std::uint64_t num_cases() {
  if (std::getenv("PERPEND_SHORT") != nullptr) return 60;
  return std::getenv("PERPEND_LONG") != nullptr ? 100'000 : 2000;
}

bool has_gradients(const AttentionBackend& backend, const AttentionCase& c) {
  return backend.table.backward != nullptr && c.page_size == 0 && !c.without_lse;
}

// Empty when two runs wrote the same bits of one sequence, else the output that differs.
std::string differing_output(const AttentionOutputs& a, std::size_t a_sequence,
                             const AttentionOutputs& b, std::size_t b_sequence) {
  const auto equal = [&](const Operand& x, const Operand& y) {
    return x.row_bytes(a_sequence) == y.row_bytes(b_sequence);
  };
  if (!equal(a.o, b.o)) return "o";
  if (!equal(a.lse, b.lse)) return "lse";
  if (!equal(a.dq, b.dq)) return "dq";
  if (!equal(a.dk, b.dk)) return "dk";
  return equal(a.dv, b.dv) ? "" : "dv";
}

// One case on every backend; each fault in a line.
class CaseRun {
 public:
  CaseRun(const AttentionCase& c, Random& random)
      : call_(c), random_(random), variation_(random.next_below(kNumVariations)) {}

  std::string faults(ThreadPool& one) {
    const AttentionCase& c = call_.attention_case();
    std::optional<AttentionExpectation> forward;
    std::optional<AttentionExpectation> both;
    for (const AttentionBackend& backend : attention_backends()) {
      if (!backend.table.supports(c.spec())) continue;
      auto& expectation = has_gradients(backend, c) ? both : forward;
      if (!expectation) expectation.emplace(call_, has_gradients(backend, c), one);
      check_values(backend, *expectation);
      if (random_.next_below(4) == 0) check_bits(backend);
    }
    return faults_;
  }

 private:
  // Kernels must run any plan of their tile sizes, whatever their tiling offers today.
  Tiling varied(const Tiling& offered) const {
    Tiling tiling = offered;
    if ((variation_ & 1U) != 0) tiling.sub_tiles = {16, 32};
    if ((variation_ & 2U) != 0) tiling.heads = HeadRows::kSeparate;
    if ((variation_ & 4U) != 0) tiling.outer_part = tiling.outer_tile / 2;
    return tiling;
  }
  AttentionPlans plans_of(const AttentionCase& c, const AttentionBackend& backend) const {
    return plan(c, backend.table, [&](const Tiling& offered) { return varied(offered); });
  }

  void check_values(const AttentionBackend& backend, const AttentionExpectation& expectation) {
    ThreadPool threads(static_cast<int>(1 + random_.next_below(3)));
    const AttentionPlans plans = plans_of(call_.attention_case(), backend);
    bool all_hold = true;
    for (const Deviation& d : expectation.compare(call_.run(backend, plans, threads))) {
      if (!d.holds()) report(backend, concat(d));
      all_hold = all_hold && d.holds();
    }
    if (!all_hold) report(backend, concat("its plans are ", verdict_on(plans)));
  }

  // Neither threads nor a second run nor batch-mates change a bit.
  void check_bits(const AttentionBackend& backend) {
    ThreadPool one(1);
    ThreadPool three(3);
    const AttentionPlans plans = plans_of(call_.attention_case(), backend);
    const AttentionOutputs expected = call_.run(backend, plans, one);
    const AttentionOutputs again = call_.run(backend, plans, three);
    for (std::size_t s = 0; s < call_.q().lengths().size(); ++s) {
      const std::string other = differing_output(expected, s, again, s);
      if (!other.empty()) report(backend, concat(other, " differs between 1 and 3 threads"));
      AttentionCall alone = call_.alone(s);
      const AttentionPlans own = plans_of(alone.attention_case(), backend);
      const std::string mates = differing_output(expected, s, alone.run(backend, own, one), 0);
      if (!mates.empty()) report(backend, concat(mates, " of sequence ", s, " differs alone"));
    }
  }

  // Whose fault a wrong value is: the plan's or the kernel's.
  std::string verdict_on(const AttentionPlans& plans) const {
    const std::vector<Mask>& masks = call_.attention_case().masks;
    std::string fault = verify(plans.rows, masks);
    if (fault.empty() && plans.columns) fault = verify(*plans.columns, masks);
    return fault.empty() ? "right" : fault;
  }

  void report(const AttentionBackend& backend, const std::string& what) {
    faults_ += concat("\n  ", backend.name, " (variation ", variation_, "): ", what);
  }

  AttentionCall call_;
  Random& random_;
  std::uint64_t variation_;  // one bit for each change of varied()
  std::string faults_;
};

TEST(AttentionParity, RandomCasesMatchTheReference) {
  ThreadPool workers;
  expect_no_faults(Campaign(num_cases()), workers, [](Random& random, ThreadPool& one_thread) {
    const AttentionCase c = random_attention_case(random);
    const std::string faults = CaseRun(c, random).faults(one_thread);
    return faults.empty() ? faults : concat(c, faults);
  });
}

TEST(AttentionParity, EveryTypeIsSupportedEverywhere) {
  for (const AttentionBackend& backend : attention_backends()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      if (dtype == DType::kF32 && backend.device.type == DeviceType::kCuda) continue;
      EXPECT_TRUE(backend.table.supports({dtype, dtype, 64})) << backend.name << " " << dtype;
    }
  }
}

}  // namespace
}  // namespace perpend
