#include "perpend/nn/product_over_rows.h"

#include <algorithm>

#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>

#include "perpend/core/range.h"

namespace perpend {
namespace {

// Tiles of 128 x 128 that keep a large GPU busy, and rows that are worth a part of their own.
constexpr std::int64_t kTile = 128;
constexpr std::int64_t kBusyTiles = 264;
constexpr std::int64_t kRowsOfAPart = 512;

std::int64_t suitable_parts(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.device().is_cpu()) return 1;
  const std::int64_t tiles = ceil_div(a.size(1), kTile) * ceil_div(b.size(1), kTile);
  return std::max<std::int64_t>(1, std::min(kBusyTiles / tiles, a.size(0) / kRowsOfAPart));
}

}  // namespace

torch::Tensor product_over_rows(const torch::Tensor& a, const torch::Tensor& b,
                                std::int64_t num_parts) {
  if (num_parts == 0) num_parts = suitable_parts(a, b);
  const std::int64_t rows_of_part = a.size(0) / num_parts;
  if (num_parts == 1 || rows_of_part == 0) return at::mm(a.t(), b);
  const std::int64_t rows_in_parts = num_parts * rows_of_part;
  const auto in_parts = [&](const torch::Tensor& x) {
    return x.narrow(0, 0, rows_in_parts).view({num_parts, rows_of_part, x.size(1)});
  };
  const auto wide = a.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const torch::Tensor parts = at::bmm(in_parts(a).transpose(1, 2), in_parts(b));
  torch::Tensor sum = parts.sum(0, /*keepdim=*/false, wide);
  const std::int64_t rest = a.size(0) - rows_in_parts;
  if (rest > 0) {
    sum.add_(at::mm(a.narrow(0, rows_in_parts, rest).t(), b.narrow(0, rows_in_parts, rest)));
  }
  return sum.to(a.scalar_type());
}

}  // namespace perpend
