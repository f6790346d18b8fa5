#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/mask/mask.h"

namespace perpend {

// Sums with the squares of their terms beside them. The root of the squares is what a sum would be
// if its terms had random signs: where terms cancel, rounding errors are measured on that instead.
struct ReferenceSums {
  explicit ReferenceSums(std::int64_t size = 0)
      : values(static_cast<std::size_t>(size)),
        squares(static_cast<std::size_t>(size)),
        score_squares(static_cast<std::size_t>(size)) {}
  // Adds factor * terms to a row. `magnitude`: what |factor| would be if nothing had cancelled
  // inside it. `score_magnitude`: how fast it moves with a relative error of the scores that it was
  // made from.
  void add_row(std::int64_t row, std::span<const double> terms, double factor, double magnitude,
               double score_magnitude);

  std::vector<double> values;
  std::vector<double> squares;
  std::vector<double> score_squares;
};

// One query head of one sequence. Query row r stands at position q_offset + r, key row c at c.
struct ReferenceHead {
  std::span<const double> q;  // [q_len, head_dim]
  std::span<const double> k;  // [kv_len, head_dim]
  std::span<const double> v;  // [kv_len, head_dim]
  std::int64_t q_len = 0;
  std::int64_t kv_len = 0;
  std::int64_t q_offset = 0;
  std::int64_t head_dim = 0;
  double scale = 1;
  double soft_cap = 0;     // 0: none
  double alibi_slope = 0;  // 0: none
  Mask mask = {};
  HeadIndex index = {};  // which head it is, for masks that ask

  bool sees(std::int64_t row, std::int64_t key) const {
    return mask.visible(q_offset + row, key, index);
  }
};

// The gradients of a loss by o and lse.
struct ReferenceLoss {
  std::span<const double> d_o;    // [q_len, head_dim]
  std::span<const double> d_lse;  // [q_len]
};

struct ReferenceOutput {
  ReferenceSums o;          // [q_len, head_dim]
  std::vector<double> lse;  // [q_len]
  // [q_len]: the squares of the terms of the row's scores (products of q and k, and the bias), of
  // the score that has most: scores may cancel to little, their rounding errors do not.
  std::vector<double> lse_squares;
};

struct ReferenceGradients {
  ReferenceSums dq;  // [q_len, head_dim]
  ReferenceSums dk;  // [kv_len, head_dim]
  ReferenceSums dv;  // [kv_len, head_dim]
};

// Attention from its definition, in f64, pair by pair: what every kernel is held against. With
//   s(r, c) = scale * q_r . k_c,  capped to soft_cap * tanh(s / soft_cap),
//             less alibi_slope * |position of r - position of c|,    over the pairs that the mask
//             shows,
//   lse_r = log sum_c exp(s(r, c)),  p(r, c) = exp(s(r, c) - lse_r),  o_r = sum_c p(r, c) v_c;
// a row without a visible key has o = 0 and lse = -inf.
// The mask is asked by its own definition, not in the form that plans are made from.
ReferenceOutput reference_attention(const ReferenceHead& head);

// The same, and adds to `gradients` the gradients of the loss by q, k and v, so that heads sharing
// a key/value head add up.
ReferenceOutput reference_attention_gradients(const ReferenceHead& head, const ReferenceLoss& loss,
                                              ReferenceGradients& gradients);

// Adds to dk and dv [head_dim] those of one key, given o [q_len, head_dim] and lse [q_len]: a
// sample where all of them would take too long. Errors of o and lse are the caller's.
void reference_key_gradients(const ReferenceHead& head, std::int64_t key, const ReferenceLoss& loss,
                             std::span<const double> o, std::span<const double> lse,
                             ReferenceSums& dk, ReferenceSums& dv);

}  // namespace perpend
