// The comparison with the reference: right outputs pass, and nothing wrong does.

#include "perpend/kernels/reference/attention_expectation.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace perpend {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

AttentionCase small_case() {
  AttentionCase c;
  // Sequence 1 has rows without a key (window(3) far behind) and keys without a row.
  c.shape = {{{5, 7, 2}, {4, 6, 20}}, 4, 2};
  c.masks = {Mask::causal(), Mask::window(3)};
  c.head_dim = 8;
  c.layout = {.ragged = true, .gap = 3};
  c.seed = 7;
  return c;
}

// Writes what the reference says.
AttentionOutputs right_outputs(const AttentionCall& call) {
  const AttentionCase& c = call.attention_case();
  AttentionOutputs outputs = call.outputs();
  const auto write = [&](Operand& operand, std::size_t s, int head,
                         const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto dim = static_cast<std::size_t>(operand.head_dim());
      operand.set(s, static_cast<std::int64_t>(i / dim), head, static_cast<std::int64_t>(i % dim),
                  values[i]);
    }
  };
  for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
    const SequenceShape& shape = c.shape.sequences[s];
    for (int kv_head = 0; kv_head < c.shape.num_kv_heads; ++kv_head) {
      const std::vector<double> k = call.k().rows(s, kv_head);
      const std::vector<double> v = call.v().rows(s, kv_head);
      ReferenceGradients sums{ReferenceSums(), ReferenceSums(shape.kv_len * c.head_dim),
                              ReferenceSums(shape.kv_len * c.head_dim)};
      for (int head = 2 * kv_head; head < 2 * kv_head + 2; ++head) {
        const std::vector<double> q = call.q().rows(s, head);
        const ReferenceHead reference = call.reference_head(s, head, q, k, v);
        const ReferenceOutput output = reference_attention(reference);
        sums.dq = ReferenceSums(shape.q_len * c.head_dim);
        const std::vector<double> d_o = call.d_o().rows(s, head);
        const std::vector<double> d_lse = call.d_lse_rows(s, head);
        reference_attention_gradients(reference, {d_o, d_lse}, sums);
        write(outputs.o, s, head, output.o.values);
        write(outputs.lse, s, head, output.lse);
        write(outputs.dq, s, head, sums.dq.values);
      }
      write(outputs.dk, s, kv_head, sums.dk.values);
      write(outputs.dv, s, kv_head, sums.dv.values);
    }
  }
  return outputs;
}

bool all_hold(const std::vector<Deviation>& deviations) {
  return std::all_of(deviations.begin(), deviations.end(),
                     [](const Deviation& d) { return d.holds(); });
}

class ExpectationTest : public testing::Test {
 protected:
  // Whether outputs with one value changed are refused, and the change is found.
  void expect_found(Operand AttentionOutputs::*output, std::size_t sequence, std::int64_t row,
                    int head, double value) {
    AttentionOutputs outputs = right_outputs(call_);
    (outputs.*output).set(sequence, row, head, 0, value);
    for (const Deviation& d : expectation_.compare(outputs)) {
      if (d.holds()) continue;
      EXPECT_EQ(d.sequence, sequence);
      EXPECT_EQ(d.row, row);
      EXPECT_EQ(d.head, head);
      EXPECT_EQ(d.dim, 0);
      return;
    }
    ADD_FAILURE() << "a wrong value passed: " << value;
  }

  ThreadPool threads_{2};
  AttentionCall call_{small_case()};
  AttentionExpectation expectation_{call_, true, threads_};
};

TEST_F(ExpectationTest, RightOutputsHold) {
  const auto deviations = expectation_.compare(right_outputs(call_));
  EXPECT_EQ(deviations.size(), 5U);
  for (const Deviation& d : deviations) EXPECT_TRUE(d.holds()) << d;
}

TEST_F(ExpectationTest, EachWrongValueIsFoundWhereItIs) {
  for (Operand AttentionOutputs::*output :
       {&AttentionOutputs::o, &AttentionOutputs::lse, &AttentionOutputs::dq, &AttentionOutputs::dk,
        &AttentionOutputs::dv}) {
    const double right = (right_outputs(call_).*output).get(0, 3, 1, 0);
    expect_found(output, 0, 3, 1, kNaN);
    expect_found(output, 0, 3, 1, right + 0.01);
    expect_found(output, 0, 3, 1, std::numeric_limits<double>::infinity());
  }
}

TEST_F(ExpectationTest, RowsWithoutAPairMustBeExact) {
  expect_found(&AttentionOutputs::o, 1, 2, 3, 1e-30);
  expect_found(&AttentionOutputs::dq, 1, 2, 3, 1e-30);
  expect_found(&AttentionOutputs::dk, 1, 5, 1, 1e-30);
  expect_found(&AttentionOutputs::lse, 1, 2, 3, -1e30);
}

// Far keys of an ALiBi head have scores of hundreds: f32 knows their probabilities less well, and
// only theirs.
TEST(Expectation, AllowsAsMuchAsTheScoresOfARowCost) {
  ThreadPool threads(1);
  for (const bool far : {false, true}) {
    AttentionCase c;
    c.shape = {{{4, 6, far ? 2000 : 2}}, 4, 2};
    c.masks = {Mask::all()};
    c.head_dim = 8;
    c.alibi = true;
    const AttentionCall call(c);
    const AttentionExpectation expectation(call, true, threads);
    const AttentionOutputs right = right_outputs(call);
    for (const Deviation& d : expectation.compare(right)) EXPECT_TRUE(d.holds()) << d;
    for (Operand AttentionOutputs::*output :
         {&AttentionOutputs::o, &AttentionOutputs::dq, &AttentionOutputs::dv}) {
      AttentionOutputs outputs = right;
      Operand& operand = outputs.*output;
      for (std::int64_t d = 0; d < c.head_dim; ++d) {
        operand.set(0, 3, 0, d, operand.get(0, 3, 0, d) * (1 + 1e-4));
      }
      EXPECT_EQ(all_hold(expectation.compare(outputs)), far) << c;
    }
  }
}

TEST_F(ExpectationTest, UnwrittenOutputsAndStraysFail) {
  EXPECT_FALSE(all_hold(expectation_.compare(call_.outputs())));
  AttentionOutputs outputs = right_outputs(call_);
  // Rows are head_dim + gap apart: the element after a row is nobody's.
  outputs.o.view().as<float>()[8] = 1;
  const auto deviations = expectation_.compare(outputs);
  EXPECT_EQ(deviations[0].num_strays, 1);
  EXPECT_FALSE(deviations[0].holds());
}

}  // namespace
}  // namespace perpend
