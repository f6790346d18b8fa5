#include "perpend/nn/dense_weight.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// Values that are dequantised at once, of whole rows: enough for every thread, and little beside a
// model.
constexpr std::int64_t kValuesAtOnce = std::int64_t{1} << 24;

void dequantize_rows(const WeightSource& source, Range rows, const torch::Tensor& to,
                     const Context& context) {
  const std::size_t bytes = row_bytes(source.format, source.in_features);
  auto* values = to.data_ptr<float>();
  context.stream.threads->parallel_for(rows.size(), 16, [&](Range chunk) {
    for (std::int64_t row = chunk.begin; row < chunk.end; ++row) {
      const auto offset = static_cast<std::size_t>(rows.begin + row) * bytes;
      dequantize_row(
          source.format, {source.blocks + offset, bytes},
          {values + row * source.in_features, static_cast<std::size_t>(source.in_features)});
    }
  });
}

}  // namespace

torch::Tensor make_dense_weight(std::span<const WeightSource> sources, torch::ScalarType type,
                                const Context& context) {
  check(type == torch::kFloat32 || type == torch::kBFloat16 || type == torch::kFloat16,
        concat("linear: a weight's tensor must be f32, bf16 or f16 (", torch::toString(type), ")"));
  check(!sources.empty(), "linear: no weight");
  const std::int64_t in_features = sources.front().in_features;
  std::int64_t out_features = 0;
  for (const WeightSource& source : sources) {
    check_eq(source.in_features, in_features, "linear: in_features of the weights differ");
    out_features += source.out_features;
  }
  const torch::Tensor weight = torch::empty(
      {out_features, in_features}, torch::dtype(type).device(torch_device(context.device)));
  const std::int64_t rows_at_once = std::max<std::int64_t>(1, kValuesAtOnce / in_features);
  const torch::Tensor values =
      torch::empty({std::min(rows_at_once, out_features), in_features}, torch::kFloat32);
  std::int64_t row = 0;
  for (const WeightSource& source : sources) {
    for (std::int64_t begin = 0; begin < source.out_features; begin += rows_at_once) {
      const Range rows{begin, std::min(begin + rows_at_once, source.out_features)};
      dequantize_rows(source, rows, values, context);
      weight.narrow(0, row, rows.size()).copy_(values.narrow(0, 0, rows.size()));
      row += rows.size();
    }
  }
  return weight;
}

}  // namespace perpend
