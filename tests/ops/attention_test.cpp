#include "perpend/ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "perpend/kernels/table.h"
#include "perpend/ops/block_attention.h"
#include "tests/ops/attention_reference.h"

namespace perpend {
namespace {

using torch::Tensor;

class OpsAttention : public testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(0); }
};

TEST_F(OpsAttention, FollowsStridesWithoutCopies) {
  const Mask mask = parse_mask("causal & window(20)");
  const Tensor tokens = torch::randn({2, 70, 8, 32});  // q, k and v of one projection
  const auto parts = tokens.transpose(1, 2).split_with_sizes({4, 2, 2}, 1);
  const AttentionOutput found = attention(parts[0], parts[1], parts[2], mask);
  const AttentionOutput expected = reference(parts[0], parts[1], parts[2], dense(mask, 70, 70, 0));
  EXPECT_LT(relative_error(found.o, expected.o), 1e-6);
  EXPECT_LT(relative_error(found.lse, expected.lse), 1e-6);
  EXPECT_TRUE(found.o.transpose(1, 2).is_contiguous());
}

TEST_F(OpsAttention, CopiesOnlyRowsThatAreNotContiguous) {
  const Tensor q = torch::randn({1, 2, 32, 40}).transpose(2, 3);
  const AttentionOutput found = attention(q, q, q, Mask::causal());
  const AttentionOutput expected = reference(q, q, q, dense(Mask::causal(), 40, 40, 0));
  EXPECT_LT(relative_error(found.o, expected.o), 1e-6);
}

TEST_F(OpsAttention, RaggedEqualsEachSequenceAlone) {
  const Tensor indptr = torch::tensor({0, 3, 3, 70}, torch::kInt32);
  const Tensor q = torch::randn({70, 4, 32});
  const Tensor k = torch::randn({70, 2, 32});
  const AttentionOutput all =
      attention(q, k, k, Mask::causal(), {.q_indptr = indptr, .kv_indptr = indptr});
  for (const auto& [begin, end] : {std::pair{0, 3}, std::pair{3, 70}}) {
    const auto part = [begin = begin, end = end](const Tensor& x) {
      return x.slice(0, begin, end).transpose(0, 1).unsqueeze(0);
    };
    const AttentionOutput alone = attention(part(q), part(k), part(k), Mask::causal());
    EXPECT_TRUE(torch::equal(part(all.o), alone.o));
    EXPECT_TRUE(torch::equal(all.lse.slice(1, begin, end), alone.lse[0]));
  }
}

TEST_F(OpsAttention, SequencesHaveOffsetsAndMasksOfTheirOwn) {
  const Tensor q = torch::randn({2, 2, 1, 16});
  const Tensor k = torch::randn({2, 2, 50, 16});
  const std::vector<Mask> masks = {Mask::causal(), Mask::causal() & Mask::window(4)};
  const std::vector<std::int64_t> offsets = {10, 30};
  const AttentionOutput both = attention(q, k, k, masks, {.q_offsets = offsets});
  for (std::int64_t s = 0; s < 2; ++s) {
    const auto i = static_cast<std::size_t>(s);
    const AttentionOutput expected =
        reference(q.slice(0, s, s + 1), k.slice(0, s, s + 1), k.slice(0, s, s + 1),
                  dense(masks[i], 1, 50, offsets[i]));
    EXPECT_LT(relative_error(both.o.slice(0, s, s + 1), expected.o), 1e-6);
  }
}

TEST_F(OpsAttention, GradientsAgreeWithAllPairs) {
  const Mask mask = parse_mask("causal & window(20)");
  std::vector<Tensor> inputs = {torch::randn({2, 4, 70, 32}), torch::randn({2, 2, 70, 32}),
                                torch::randn({2, 2, 70, 32})};
  for (Tensor& input : inputs) input.requires_grad_();
  const auto loss = [](const AttentionOutput& output) {
    return output.o.to(torch::kFloat64).square().sum() + output.lse.to(torch::kFloat64).sum();
  };
  const auto found =
      torch::autograd::grad({loss(attention(inputs[0], inputs[1], inputs[2], mask))}, inputs);
  const auto expected = torch::autograd::grad(
      {loss(reference(inputs[0], inputs[1], inputs[2], dense(mask, 70, 70, 0)))}, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LT(relative_error(found[i], expected[i]), 1e-5) << "input " << i;
  }
}

TEST_F(OpsAttention, SecondDerivativesAreRefused) {
  const Tensor q = torch::randn({1, 2, 9, 8}).requires_grad_();
  const AttentionOutput output = attention(q, q, q, Mask::causal());
  const auto first = torch::autograd::grad({output.o.sum()}, {q}, {}, true, true);
  EXPECT_THAT(error_of([&] { first[0].sum().backward(); }),
              testing::HasSubstr("second derivatives"));
}

TEST_F(OpsAttention, ForwardModeIsRefused) {
  const Tensor q = torch::randn({1, 2, 9, 8});
  const Tensor blocks = torch::zeros({1, 1, 1, 1}, torch::kInt32);
  torch::autograd::forward_ad::enter_dual_level();
  const Tensor dual = at::_make_dual(q, q, 0);
  EXPECT_THAT(error_of([&] { attention(q, dual, q, Mask::causal()); }),
              testing::HasSubstr("forward-mode"));
  EXPECT_THAT(error_of([&] { block_attention(q, q, dual, blocks); }),
              testing::HasSubstr("forward-mode"));
  torch::autograd::forward_ad::exit_dual_level(0);
}

// Two lists, for two heads each: blocks 2 and 0, and, for the second half of the queries, block 1.
TEST_F(OpsAttention, ListsOfBlocks) {
  const Tensor q = torch::randn({1, 4, 40, 16}).requires_grad_();
  const Tensor k = torch::randn({1, 2, 70, 16}).requires_grad_();
  const Tensor v = torch::randn({1, 2, 70, 16}).requires_grad_();
  const Tensor blocks =
      torch::tensor({2, 0, 1, -1, 2, 0, 0, 0}, torch::kInt32).reshape({1, 2, 2, 2});
  Tensor visible = torch::zeros({1, 4, 40, 70}, torch::kBool);
  using torch::indexing::Slice;
  visible.index_put_({0, Slice(0, 2), Slice(0, 20), Slice(0, 32)}, true);
  visible.index_put_({0, Slice(0, 2), Slice(0, 20), Slice(64, 70)}, true);
  visible.index_put_({0, Slice(0, 2), Slice(20, 40), Slice(32, 64)}, true);
  visible.index_put_({0, Slice(2, 4), Slice(0, 20), Slice(0, 32)}, true);
  visible.index_put_({0, Slice(2, 4), Slice(0, 20), Slice(64, 70)}, true);
  visible.index_put_({0, Slice(2, 4), Slice(20, 40), Slice(0, 32)}, true);
  const AttentionOutput found =
      block_attention(q, k, v, blocks, {.block_size = 32, .q_block_size = 20});
  const AttentionOutput expected = reference(q, k, v, visible);
  EXPECT_LT(relative_error(found.o, expected.o), 1e-6);
  EXPECT_LT(relative_error(found.lse, expected.lse), 1e-6);
  const auto gradients = [&](const AttentionOutput& of) {
    return torch::autograd::grad({of.o.square().sum() + of.lse.sum()}, {q, k, v});
  };
  const auto found_gradients = gradients(found);
  const auto expected_gradients = gradients(expected);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LT(relative_error(found_gradients[i], expected_gradients[i]), 1e-5);
  }
}

TEST_F(OpsAttention, ListsThatChangeBeforeTheBackwardPassAreTold) {
  const Tensor q = torch::randn({1, 2, 9, 8}).requires_grad_();
  const Tensor blocks = torch::zeros({1, 1, 1, 1}, torch::kInt32);
  const AttentionOutput output = block_attention(q, q, q, blocks);
  blocks.fill_(-1);
  EXPECT_THROW(output.o.sum().backward(), c10::Error);
}

TEST_F(OpsAttention, ErrorsNameTheOperand) {
  const Tensor q = torch::randn({2, 4, 70, 32});
  const Tensor k = torch::randn({2, 2, 70, 32});
  const Mask mask = Mask::causal();
  using testing::HasSubstr;
  EXPECT_THAT(error_of([&] { attention(q, k[0], k, mask); }),
              HasSubstr("k must be [batch, heads, length, head_dim]"));
  EXPECT_THAT(error_of([&] { attention(q, k.slice(0, 0, 1), k, mask); }),
              HasSubstr("batch of q and of k differ (2 vs 1)"));
  EXPECT_THAT(error_of([&] { attention(k, q, q, mask); }), HasSubstr("(2 vs 4)"));
  EXPECT_THAT(error_of([&] {
                attention(q, k, k, mask, {.q_indptr = torch::tensor({0, 2})});
              }),
              HasSubstr("must be given together"));
  EXPECT_THAT(error_of([&] { attention(q.to(torch::kInt32), k, k, mask); }), HasSubstr("i32"));
  EXPECT_THAT(error_of([&] {
                attention(q, k, k, mask, {.q_offsets = {1, 2, 3}});
              }),
              HasSubstr("q_offset"));
}

}  // namespace
}  // namespace perpend
