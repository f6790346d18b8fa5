#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "perpend/core/thread_pool.h"
#include "perpend/kernels/cpu/attention_operands.h"
#include "perpend/kernels/cpu/scratch.h"
#include "perpend/schedule/attention_shape.h"

namespace perpend {

// What the backward pass wants to know of each query row and head, once for both sweeps:
//   lse    to base 2, +inf for a row without a key, whose probabilities are then zero
//   delta  d_o . o - d_lse, so that a score's gradient is p * (d_o . v - delta)
template <class Real>
class QueryStatistics {
 public:
  QueryStatistics(const AttentionShape& shape, ScratchLayout& layout) : shape_(shape) {
    begins_at_ = layout.add<std::int64_t>(shape.sequences.size() + 1);
    for (const SequenceShape& sequence : shape.sequences) total_ += sequence.q_len;
    const auto count = static_cast<std::size_t>(total_ * shape.num_q_heads);
    lse_at_ = layout.add<Real>(count);
    delta_at_ = layout.add<Real>(count);
  }

  void compute(ScratchView scratch, const TileMicro<Real>& micro, const AttentionGradArgs& args,
               ThreadPool& threads) {
    begins_ = scratch.at<std::int64_t>(begins_at_);
    lse_ = scratch.at<Real>(lse_at_);
    delta_ = scratch.at<Real>(delta_at_);
    begins_[0] = 0;
    const auto num_sequences = static_cast<std::int64_t>(shape_.sequences.size());
    for (std::int64_t s = 0; s < num_sequences; ++s) {
      begins_[s + 1] = begins_[s] + shape_.sequences[static_cast<std::size_t>(s)].q_len;
    }
    const TokenRows o(args.forward.o, args.forward.q_indptr);
    const TokenRows d_o(args.d_o, args.forward.q_indptr);
    const RowValues lse(args.forward.lse, args.forward.q_indptr);
    const RowValues d_lse(args.d_lse, args.forward.q_indptr);
    for (std::int64_t s = 0; s < num_sequences; ++s) {
      const auto sequence = static_cast<std::int32_t>(s);
      const std::int64_t q_len = begins_[s + 1] - begins_[s];
      constexpr std::int64_t kRowsOfATask = 256;
      threads.parallel_for(q_len * shape_.num_q_heads, kRowsOfATask, [&](Range range) {
        for (std::int64_t i = range.begin; i < range.end; ++i) {
          const auto head = static_cast<int>(i / q_len);
          const std::int64_t token = i % q_len;
          Real delta = micro.dot(o.dtype(), o.row(sequence, head, token), d_o.dtype(),
                                 d_o.row(sequence, head, token), o.dim());
          if (d_lse) delta -= d_lse.template at<Real>(sequence, head, token);
          const Real natural = lse.template at<Real>(sequence, head, token);
          const std::int64_t at = head * total_ + begins_[s] + token;
          lse_[at] = natural == -std::numeric_limits<Real>::infinity()
                         ? std::numeric_limits<Real>::infinity()
                         : natural * std::numbers::log2e_v<Real>;
          delta_[at] = delta;
        }
      });
    }
  }

  // Of the first row of a sequence and head; others follow.
  const Real* lse(std::int32_t sequence, int head) const {
    return lse_ + head * total_ + begins_[sequence];
  }
  const Real* delta(std::int32_t sequence, int head) const {
    return delta_ + head * total_ + begins_[sequence];
  }

 private:
  const AttentionShape& shape_;
  std::int64_t total_ = 0;  // query rows of one head
  std::size_t begins_at_ = 0;
  std::size_t lse_at_ = 0;
  std::size_t delta_at_ = 0;
  std::int64_t* begins_ = nullptr;
  Real* lse_ = nullptr;
  Real* delta_ = nullptr;
};

}  // namespace perpend
