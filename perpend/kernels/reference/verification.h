#pragma once

#include <string>
#include <vector>

#include "perpend/kernels/reference/attention_expectation.h"

namespace perpend {

// What one backend made of a case in one type.
struct BackendVerdict {
  std::string backend;
  DType dtype = DType::kF32;
  bool has_backward = false;
  std::vector<Deviation> deviations;  // o, lse and, with a backward pass, dq, dk, dv
  bool bits_equal = false;            // of two runs with other numbers of threads

  bool holds() const;
};

// What verify_attention() found. The schedules' faults are empty when there is none.
struct Verification {
  double density = 0;  // live pairs / all pairs
  std::string rows_fault;
  std::string columns_fault;
  std::vector<BackendVerdict> verdicts;

  bool holds() const;
};

// Runs `c`, its types apart, in every type on every backend of this machine, forward and backward
// where there is a backward pass, against the f64 reference, and proves the schedules of both
// sweeps pair by pair. Work grows with q_len * kv_len * num_q_heads: throws InvalidArgument with
// advice where that would take hours.
Verification verify_attention(const AttentionCase& c, ThreadPool& threads);

}  // namespace perpend
