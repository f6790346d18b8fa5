// Attention under LongGen's masks (arXiv:2410.01485) on every backend of this machine, forward and
// backward, against the f64 reference; and what must equal a dense call bit for bit.

#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/concat.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/kernels/reference/backends.h"

namespace perpend {
namespace {

AttentionCase longgen_case(const std::string& mask, std::int64_t length, int group_size) {
  AttentionCase c;
  c.masks = {parse_mask(mask)};
  c.shape = {{{length, length, 0}}, 4, 4 / group_size};
  c.head_dim = 16;
  c.seed = static_cast<std::uint64_t>(length);
  return c;
}

// The paper's block of 64 with few enough of them to leave some out at 500 and 1024 tokens; the
// third lets the blocks of the heads differ.
constexpr const char* kMasks[] = {"longgen_sink(64, 1, 2)", "longgen_strided(64, 2, 4)",
                                  "longgen_strided(64, 2, 4, 1)"};

// The longest takes a second for each mask, where sanitizers look on twenty.
std::vector<std::int64_t> lengths() {
  if (std::getenv("PERPEND_SHORT") != nullptr) return {1, 63, 64, 65, 200};
  return {1, 63, 64, 65, 500, 1024};
}

TEST(LongGenAttention, AgreesWithTheReferenceForwardAndBackward) {
  ThreadPool threads;
  for (const char* mask : kMasks) {
    for (const std::int64_t length : lengths()) {
      for (const int group_size : {1, 4}) {
        AttentionCall call(longgen_case(mask, length, group_size));
        const AttentionExpectation expectation(call, true, threads);
        for (const AttentionBackend& backend : attention_backends()) {
          if (!backend.table.supports(call.attention_case().spec())) continue;
          const AttentionPlans plans = plan(call.attention_case(), backend.table);
          for (const Deviation& d : expectation.compare(call.run(backend, plans, threads))) {
            EXPECT_TRUE(d.holds()) << backend.name << " " << call.attention_case() << " " << d;
          }
        }
      }
    }
  }
}

// As long as every block is kept, the mask hides nothing that causal does not.
TEST(LongGenAttention, EqualsDenseBitForBitWhereEveryBlockIsKept) {
  ThreadPool threads(2);
  for (const std::int64_t length : lengths()) {
    AttentionCall dense(longgen_case("causal", length, 2));
    for (const char* mask :
         {"longgen_sink(64, 1, 31)", "longgen_sink(64, 0, 16)", "longgen_sink(64, 15, 1)",
          "longgen_strided(64, 16, 128)", "longgen_strided(64, 1, 1)"}) {
      AttentionCall sparse(longgen_case(mask, length, 2));
      for (const AttentionBackend& backend : attention_backends()) {
        if (!backend.table.supports(dense.attention_case().spec())) continue;
        const AttentionOutputs expected =
            dense.run(backend, plan(dense.attention_case(), backend.table), threads);
        const AttentionOutputs found =
            sparse.run(backend, plan(sparse.attention_case(), backend.table), threads);
        for (const auto output :
             {&AttentionOutputs::o, &AttentionOutputs::lse, &AttentionOutputs::dq,
              &AttentionOutputs::dk, &AttentionOutputs::dv}) {
          EXPECT_EQ((expected.*output).row_bytes(0), (found.*output).row_bytes(0))
              << backend.name << " " << mask << " " << length;
        }
      }
    }
  }
}

}  // namespace
}  // namespace perpend
