// Attention under the mask of a ranking prompt, forward and backward, on everything this machine
// has.

#include <gtest/gtest.h>

#include "perpend/kernels/reference/verification.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

TEST(BlockRankAttention, RaggedBlocksMatchTheReference) {
  const std::vector<std::vector<Label::Run>> prompts = {
      {{9, 1}, {1, 1}, {70, 1}, {17, 1}, {1, 1}, {33, 1}, {5, 1}},
      {{1, 1}, {12, 3}, {1, 1}},
  };
  AttentionCase c;
  for (const auto& runs : prompts) {
    std::int64_t tokens = 0;
    std::int64_t blocks = 0;
    for (const Label::Run& run : runs) {
      tokens += run.length * run.count;
      blocks += run.count;
    }
    c.shape.sequences.push_back({tokens, tokens, 0});
    c.masks.push_back(parse_mask(concat("blockrank(doc, ", blocks - 1, ")"))
                          .bind(Bindings().set("doc", Label::segments(runs))));
  }
  c.shape.num_q_heads = 8;
  c.shape.num_kv_heads = 2;
  c.head_dim = 16;
  c.layout.ragged = true;
  ThreadPool threads;
  const Verification verification = verify_attention(c, threads);
  EXPECT_EQ(verification.rows_fault, "");
  EXPECT_EQ(verification.columns_fault, "");
  EXPECT_FALSE(verification.verdicts.empty());
  for (const BackendVerdict& verdict : verification.verdicts) {
    EXPECT_TRUE(verdict.holds()) << verdict.backend << " " << verdict.dtype;
    EXPECT_TRUE(verdict.has_backward || verdict.backend.find("cuda") != std::string::npos);
  }
}

}  // namespace
}  // namespace perpend
