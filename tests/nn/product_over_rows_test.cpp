#include "perpend/nn/product_over_rows.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace perpend {
namespace {

// Columns of a wider matrix, as an adapter's outputs are, with any number of rows and parts.
TEST(ProductOverRows, IsTheProductForAnyNumberOfParts) {
  for (const std::int64_t rows : {1, 7, 64, 1003}) {
    const torch::Tensor wide = at::randn({rows, 40}, torch::kFloat64);
    const torch::Tensor a = wide.narrow(1, 5, 24);
    const torch::Tensor b = at::randn({rows, 3}, torch::kFloat64);
    const torch::Tensor expected = at::mm(a.t(), b);
    for (const std::int64_t parts : {0, 1, 2, 5, 64, 1003}) {
      const torch::Tensor found = product_over_rows(a, b, parts);
      EXPECT_TRUE(found.allclose(expected, 1e-12, 1e-12)) << rows << " rows, " << parts << " parts";
    }
  }
}

// Sums of the parts must not be rounded one after another.
TEST(ProductOverRows, SumsPartsOfBf16InF32) {
  const torch::Tensor a = at::randn({4096, 8}).to(torch::kBFloat16);
  const torch::Tensor b = at::randn({4096, 8}).to(torch::kBFloat16);
  const torch::Tensor exact = at::mm(a.to(torch::kFloat64).t(), b.to(torch::kFloat64));
  const torch::Tensor found = product_over_rows(a, b, 256);
  EXPECT_EQ(found.scalar_type(), torch::kBFloat16);
  const double size = exact.abs().max().item<double>();
  EXPECT_LT((found.to(torch::kFloat64) - exact).abs().max().item<double>(), 0.006 * size);
}

}  // namespace
}  // namespace perpend
