#include "perpend/models/rotary_rows.h"

#include <vector>

#include <ATen/ops/index_select.h>

namespace perpend {
namespace {

// Of each row in the half-split order, its place in the interleaved one.
std::vector<std::int64_t> interleaved_places(std::int64_t num_rows, const ModelConfig& config) {
  const std::int64_t half = config.rotary.rotary_dim / 2;
  std::vector<std::int64_t> places;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    const std::int64_t i = row % config.head_dim;
    const std::int64_t place = i < half ? 2 * i : i < 2 * half ? 2 * (i - half) + 1 : i;
    places.push_back(row - i + place);
  }
  return places;
}

torch::Tensor rows_at(const torch::Tensor& rows, const std::vector<std::int64_t>& places) {
  return at::index_select(rows, 0, torch::tensor(places).to(rows.device()));
}

}  // namespace

bool is_of_turned_rows(std::string_view name) {
  return name.find(".q_proj") != std::string_view::npos ||
         name.find(".k_proj") != std::string_view::npos;
}

torch::Tensor to_half_split(const torch::Tensor& rows, const ModelConfig& config) {
  if (config.rotary.layout == RotaryLayout::kHalfSplit) return rows;
  return rows_at(rows, interleaved_places(rows.size(0), config));
}

torch::Tensor from_half_split(const torch::Tensor& rows, const ModelConfig& config) {
  if (config.rotary.layout == RotaryLayout::kHalfSplit) return rows;
  const std::vector<std::int64_t> places = interleaved_places(rows.size(0), config);
  std::vector<std::int64_t> inverse(places.size());
  for (std::size_t row = 0; row < places.size(); ++row) {
    inverse[static_cast<std::size_t>(places[row])] = static_cast<std::int64_t>(row);
  }
  return rows_at(rows, inverse);
}

}  // namespace perpend
