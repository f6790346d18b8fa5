#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/kernels/reference/attention_call.h"

namespace perpend {

// One attention problem to measure: `batch` sequences of `tokens` queries and keys.
struct Workload {
  std::string name;
  std::string mask;      // text
  std::string bindings;  // what its names mean, as text
  std::int64_t batch = 1;
  int num_q_heads = 8;
  int num_kv_heads = 8;
  std::int64_t tokens = 0;
  std::int64_t head_dim = 64;

  AttentionShape shape() const;
  // Throws InvalidArgument for a mask that can not be read.
  Mask bound_mask() const;
  // Operands of one type in tensors [B, H, S, D].
  AttentionCase attention_case(DType dtype) const;
};

// The sets of bench/workloads.json, which is part of the program: "cpu", "gpu".
// Throws InvalidArgument for another name.
std::vector<Workload> standard_workloads(std::string_view set);

}  // namespace perpend
