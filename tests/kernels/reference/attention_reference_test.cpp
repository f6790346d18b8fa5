// The reference itself: its outputs against another way to write the definition, its gradients
// against central differences of those outputs.

#include "perpend/kernels/reference/attention_reference.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "perpend/core/concat.h"
#include "perpend/core/random.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

struct Problem {
  explicit Problem(Random& random) {
    const auto below = [&](std::uint64_t bound) {
      return static_cast<std::int64_t>(random.next_below(bound));
    };
    head.q_len = 1 + below(6);
    head.kv_len = 1 + below(8);
    head.q_offset = below(4);
    head.head_dim = 1 + below(5);
    head.scale = 0.2 + random.next_double();
    if (below(2) == 0) head.soft_cap = 0.5 + random.next_double();
    if (below(2) == 0) head.alibi_slope = random.next_double();
    head.mask = random_mask(random, 8);
    head.index = {static_cast<int>(below(4)), static_cast<int>(below(2))};
    q = values(head.q_len * head.head_dim, random);
    k = values(head.kv_len * head.head_dim, random);
    v = values(head.kv_len * head.head_dim, random);
    d_o = values(head.q_len * head.head_dim, random);
    d_lse = values(head.q_len, random);
    head.q = q;
    head.k = k;
    head.v = v;
  }
  static std::vector<double> values(std::int64_t count, Random& random) {
    std::vector<double> result;
    for (std::int64_t i = 0; i < count; ++i) result.push_back(4 * random.next_double() - 2);
    return result;
  }

  // The loss whose gradients are d_o and d_lse; rows without a key have none.
  double loss() const {
    const ReferenceOutput output = reference_attention(head);
    double sum = 0;
    for (std::size_t i = 0; i < d_o.size(); ++i) sum += d_o[i] * output.o.values[i];
    for (std::size_t i = 0; i < d_lse.size(); ++i) {
      if (!std::isinf(output.lse[i])) sum += d_lse[i] * output.lse[i];
    }
    return sum;
  }

  // Perturbs each value in turn.
  void expect_derivatives(std::vector<double>& operand, const std::vector<double>& gradient,
                          const char* what) const {
    constexpr double kStep = 1e-5;
    for (std::size_t i = 0; i < operand.size(); ++i) {
      const double value = operand[i];
      operand[i] = value + kStep;
      const double above = loss();
      operand[i] = value - kStep;
      const double below = loss();
      operand[i] = value;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-7)
          << what << "[" << i << "] of " << head.mask << ", soft cap " << head.soft_cap
          << ", slope " << head.alibi_slope;
    }
  }

  std::vector<double> q, k, v, d_o, d_lse;
  ReferenceHead head;
};

TEST(AttentionReference, OutputsAreWeightedMeans) {
  Random random(1);
  for (int i = num_trials(200); i > 0; --i) {
    const Problem p(random);
    const ReferenceOutput found = reference_attention(p.head);
    for (std::int64_t row = 0; row < p.head.q_len; ++row) {
      const std::int64_t position = p.head.q_offset + row;
      double sum = 0;
      std::vector<double> o(static_cast<std::size_t>(p.head.head_dim));
      for (std::int64_t key = 0; key < p.head.kv_len; ++key) {
        if (!p.head.sees(row, key)) continue;
        double score = 0;
        for (std::int64_t d = 0; d < p.head.head_dim; ++d) {
          score += p.head.scale * p.q[static_cast<std::size_t>(row * p.head.head_dim + d)] *
                   p.k[static_cast<std::size_t>(key * p.head.head_dim + d)];
        }
        if (p.head.soft_cap > 0) score = p.head.soft_cap * std::tanh(score / p.head.soft_cap);
        const auto distance = static_cast<double>(std::max(position - key, key - position));
        const double weight = std::exp(score - p.head.alibi_slope * distance);
        sum += weight;
        for (std::size_t d = 0; d < o.size(); ++d) {
          o[d] += weight * p.v[static_cast<std::size_t>(key) * o.size() + d];
        }
      }
      const auto r = static_cast<std::size_t>(row);
      if (sum == 0) {
        EXPECT_TRUE(std::isinf(found.lse[r]) && found.lse[r] < 0) << p.head.mask;
      } else {
        EXPECT_NEAR(found.lse[r], std::log(sum), 1e-12) << p.head.mask;
      }
      for (std::size_t d = 0; d < o.size(); ++d) {
        EXPECT_NEAR(found.o.values[r * o.size() + d], sum == 0 ? 0 : o[d] / sum, 1e-12)
            << p.head.mask;
      }
    }
  }
}

TEST(AttentionReference, GradientsAreCentralDifferences) {
  Random random(2);
  for (int i = num_trials(100); i > 0; --i) {
    Problem p(random);
    ReferenceGradients gradients{ReferenceSums(p.head.q_len * p.head.head_dim),
                                 ReferenceSums(p.head.kv_len * p.head.head_dim),
                                 ReferenceSums(p.head.kv_len * p.head.head_dim)};
    reference_attention_gradients(p.head, {p.d_o, p.d_lse}, gradients);
    p.expect_derivatives(p.q, gradients.dq.values, "dq");
    p.expect_derivatives(p.k, gradients.dk.values, "dk");
    p.expect_derivatives(p.v, gradients.dv.values, "dv");
  }
}

TEST(AttentionReference, GradientsOfOneKeyAreThoseOfAll) {
  Random random(3);
  for (int i = num_trials(100); i > 0; --i) {
    const Problem p(random);
    const std::int64_t dim = p.head.head_dim;
    ReferenceGradients all{ReferenceSums(p.head.q_len * dim), ReferenceSums(p.head.kv_len * dim),
                           ReferenceSums(p.head.kv_len * dim)};
    reference_attention_gradients(p.head, {p.d_o, p.d_lse}, all);
    const ReferenceOutput output = reference_attention(p.head);
    for (std::int64_t key = 0; key < p.head.kv_len; ++key) {
      ReferenceSums dk(dim);
      ReferenceSums dv(dim);
      reference_key_gradients(p.head, key, {p.d_o, p.d_lse}, output.o.values, output.lse, dk, dv);
      for (std::int64_t d = 0; d < dim; ++d) {
        const auto one = static_cast<std::size_t>(d);
        const auto at = static_cast<std::size_t>(key * dim + d);
        EXPECT_NEAR(dk.values[one], all.dk.values[at], 1e-12) << p.head.mask;
        EXPECT_NEAR(dv.values[one], all.dv.values[at], 1e-12) << p.head.mask;
      }
    }
  }
}

// Scores that are off by a small part move each row by no more than their size says.
TEST(AttentionReference, ScoreSquaresTellWhatErrorsOfScoresDo) {
  constexpr double kPart = 1e-7;
  Random random(4);
  for (int i = num_trials(200); i > 0; --i) {
    Problem p(random);
    p.head.soft_cap = 0;
    if (i % 2 == 0) p.head.alibi_slope *= 100;
    const auto gradients_of = [&](const ReferenceHead& head) {
      ReferenceGradients gradients{ReferenceSums(head.q_len * head.head_dim),
                                   ReferenceSums(head.kv_len * head.head_dim),
                                   ReferenceSums(head.kv_len * head.head_dim)};
      reference_attention_gradients(head, {p.d_o, p.d_lse}, gradients);
      return gradients;
    };
    ReferenceHead off = p.head;
    off.scale *= 1 + kPart;
    off.alibi_slope *= 1 + kPart;
    const auto expect_small = [&](const ReferenceSums& right, const ReferenceSums& moved) {
      for (std::size_t d = 0; d < right.values.size(); ++d) {
        // Half a dozen terms that all lean one way; scale itself stands before dq and dk.
        const double most = 3 * (std::sqrt(right.score_squares[d]) + std::sqrt(right.squares[d]));
        EXPECT_LE(std::abs(moved.values[d] - right.values[d]), kPart * most + 1e-14) << p.head.mask;
      }
    };
    expect_small(reference_attention(p.head).o, reference_attention(off).o);
    const ReferenceGradients right = gradients_of(p.head);
    const ReferenceGradients moved = gradients_of(off);
    expect_small(right.dq, moved.dq);
    expect_small(right.dk, moved.dk);
    expect_small(right.dv, moved.dv);
  }
}

TEST(AttentionReference, SquaresBoundWhatCancels) {
  // One visible key: the output does not depend on q and k, but a kernel's rounding errors show.
  const std::vector<double> one = {1.0, 2.0};
  ReferenceHead head{.q = one, .k = one, .v = one, .q_len = 1, .kv_len = 1, .head_dim = 2};
  ReferenceGradients gradients{ReferenceSums(2), ReferenceSums(2), ReferenceSums(2)};
  reference_attention_gradients(head, {one, std::vector<double>{0.0}}, gradients);
  EXPECT_EQ(gradients.dq.values, (std::vector<double>{0.0, 0.0}));
  EXPECT_GT(gradients.dq.squares[0], 1.0);
  EXPECT_EQ(gradients.dv.values, one);
}

}  // namespace
}  // namespace perpend
