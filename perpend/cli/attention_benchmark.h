#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/workloads/workload.h"

namespace perpend {

// Times of one workload in one type, on the kernels that a model would run. Medians.
struct AttentionTimes {
  double plan_s = 0;  // both schedules
  double first_call_s = 0;
  double forward_ms = 0;
  std::optional<double> backward_ms;  // absent without a backward pass
  double density = 0;                 // live pairs / all pairs
  double live_pairs = 0;              // of all heads and sequences
  std::vector<Deviation> check;       // of sampled rows, before anything is timed

  double forward_tflops(std::int64_t head_dim) const;
  std::optional<double> backward_tflops(std::int64_t head_dim) const;
};

// Operands of one type in tensors [B, H, S, D].
AttentionCase attention_case(const Workload& workload, DType dtype);

// Checks the answer, then times `reps` calls after it. Throws std::logic_error when the answer is
// wrong: no time of a wrong answer is worth knowing.
AttentionTimes time_attention(const Workload& workload, DType dtype, int reps, ThreadPool& threads);

// The same shape, heads and type with every pair live, at most as many tokens as give a rate.
Workload dense_workload(const Workload& workload);

struct PlanTimes {
  double rows_ms = 0;
  double columns_ms = 0;
  Schedule rows;  // as measured
};
PlanTimes time_plans(const Workload& workload, const Tiling& rows, const Tiling& columns, int reps);

// Bytes a second that one thread copies (counted once) from and to memory that no cache holds.
double copy_bytes_per_s();

double median(std::vector<double> values);

}  // namespace perpend
