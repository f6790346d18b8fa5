#pragma once

#include <cstdint>
#include <vector>

namespace perpend {

// One sequence of a batch. Positions are absolute: query row r stands at position q_offset + r, key
// row c at position c. A decode step with n cached keys has q_len 1, kv_len n + 1, q_offset n.
struct SequenceShape {
  std::int64_t q_len = 0;
  std::int64_t kv_len = 0;
  std::int64_t q_offset = 0;

  friend bool operator==(const SequenceShape&, const SequenceShape&) = default;
};

// What a mask is compiled for.
struct AttentionShape {
  std::vector<SequenceShape> sequences;  // one entry for each sequence of the batch
  int num_q_heads = 1;
  int num_kv_heads = 1;  // divides num_q_heads

  int group_size() const { return num_q_heads / num_kv_heads; }
  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

}  // namespace perpend
