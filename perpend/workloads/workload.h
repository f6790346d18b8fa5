#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perpend/mask/mask.h"
#include "perpend/schedule/attention_shape.h"

namespace perpend {

// An attention problem to measure: sequences of as many queries as keys, all of one length.
struct Workload {
  std::string name;
  std::string mask_text;
  Mask mask;  // with its labels bound
  AttentionShape shape;
  int head_dim = 0;

  std::int64_t tokens() const { return shape.sequences.front().q_len; }
};

// `batch` sequences of `tokens` queries and keys.
AttentionShape uniform_shape(std::int64_t batch, std::int64_t tokens, int num_q_heads,
                             int num_kv_heads);

// The workloads of one set of bench/workloads.json, whose text is part of the program: "gpu_bf16"
// or "cpu". Throws InvalidArgument for another name.
std::vector<Workload> read_workloads(const std::string& set);

}  // namespace perpend
