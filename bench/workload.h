#pragma once

#include <string>
#include <vector>

#include "perpend/schedule/schedule.h"

namespace perpend {

// A line of bench/workloads.json.
struct Workload {
  std::string name;
  Mask mask;  // with its labels bound
  AttentionShape shape;
  int head_dim = 0;
};

// The workloads of one of its sets: "gpu_bf16" or "cpu".
std::vector<Workload> read_workloads(const std::string& set);

}  // namespace perpend
