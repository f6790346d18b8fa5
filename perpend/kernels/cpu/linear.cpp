#include "perpend/kernels/cpu/linear.h"

#include <algorithm>
#include <array>

#include "perpend/kernels/cpu/linear_pack.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace {

using panel::kBlock;
using panel::kRows;

constexpr std::int64_t kTileRows = 64;       // rows of x that share one pass over a panel
constexpr std::size_t kTaskBytes = 1 << 15;  // weights a task reads at least

void check_matrix(const TensorView& view, std::int64_t columns, std::string_view name) {
  check(view.num_axes() == 2 && view.dtype == DType::kF32 && view.size(1) == columns &&
            (view.stride(1) == 1 || view.size(1) == 1),
        concat("linear: ", name, ": expected dense f32 rows of ", columns, ", found ", view));
}

void check_args(const LinearArgs& args) {
  if (args.weight == nullptr || args.scratch == nullptr) bug("linear: no weight or scratch");
  check_matrix(args.x, args.weight->in_features, "x");
  check_matrix(args.out, args.weight->out_features, "out");
  check_eq(args.x.size(0), args.out.size(0), "linear: rows of x and out differ");
}

// Quantised activations in the caller's scratch memory.
QuantizedRows quantize_rows(const LinearMicro& micro, const LinearArgs& args, Stream stream) {
  const std::int64_t rows = args.x.size(0);
  const std::int64_t columns = args.weight->in_features;
  const std::int64_t blocks = columns / kBlock;
  const auto term_bytes = static_cast<std::size_t>(rows * blocks * QuantizedRows::kBlockBytes);
  const auto block_bytes = static_cast<std::size_t>(round_up(rows * blocks * 4, 64));
  if (args.scratch->size() < term_bytes + 2 * block_bytes) {
    *args.scratch = AlignedBuffer(term_bytes + 2 * block_bytes);
  }
  auto* terms = args.scratch->as<std::int8_t>();
  auto* scales = reinterpret_cast<float*>(args.scratch->data() + term_bytes);
  auto* sums = reinterpret_cast<std::int32_t*>(args.scratch->data() + term_bytes + block_bytes);
  stream.threads->parallel_for(rows, 16, [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      micro.quantize_row(args.x.as<float>() + row * args.x.stride(0), columns,
                         terms + row * blocks * QuantizedRows::kBlockBytes, scales + row * blocks,
                         sums + row * blocks);
    }
  });
  return {terms, scales, sums};
}

QuantizedRows skip_rows(const QuantizedRows& rows, std::int64_t count, std::int64_t blocks) {
  return {rows.terms + count * blocks * QuantizedRows::kBlockBytes, rows.scales + count * blocks,
          rows.sums + count * blocks};
}

// Adds bias and, where asked, what `out` holds, and stores the columns that exist.
void store_tile(const LinearArgs& args, const float* tile, std::int64_t first_row,
                std::int64_t num_rows, std::int64_t first_column) {
  const std::int64_t num_columns =
      std::min<std::int64_t>(kRows, args.weight->out_features - first_column);
  for (std::int64_t row = 0; row < num_rows; ++row, tile += kRows) {
    float* out = args.out.as<float>() + (first_row + row) * args.out.stride(0) + first_column;
    for (std::int64_t i = 0; i < num_columns; ++i) {
      float value = tile[i];
      if (args.bias != nullptr) value += args.bias[first_column + i];
      out[i] = args.accumulate ? out[i] + value : value;
    }
  }
}

void linear_entry(const LinearArgs& args, Stream stream) {
  static const LinearMicro& micro = linear_micro(best_cpu_isa());
  cpu_linear(micro, args, stream);
}

}  // namespace

const LinearMicro& linear_micro(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return linear_micro_scalar();
    case CpuIsa::kAvx2:
      return linear_micro_avx2();
    case CpuIsa::kAvx512:
      return linear_micro_avx512();
  }
  bug("linear_micro: unknown instruction set");
}

void cpu_linear(const LinearMicro& micro, const LinearArgs& args, Stream stream) {
  check_args(args);
  const PackedWeight& weight = *args.weight;
  const std::int64_t num_rows = args.x.size(0);
  const std::int64_t blocks = weight.in_features / kBlock;
  const bool integer = panel::is_integer(weight.layout);
  const QuantizedRows quantized = integer ? quantize_rows(micro, args, stream) : QuantizedRows{};
  const std::size_t panel_bytes = panel::panel_bytes(weight.layout, weight.in_features);
  const std::int64_t num_panels = ceil_div(weight.out_features, kRows);
  const auto grain = static_cast<std::int64_t>(
      num_rows == 1 ? std::max<std::size_t>(1, kTaskBytes / panel_bytes) : 1);
  stream.threads->parallel_for(num_panels, grain, [&](Range panels) {
    alignas(64) std::array<float, kTileRows * kRows> tile;
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      const std::byte* panel_data =
          weight.blocks.data() + static_cast<std::size_t>(p) * panel_bytes;
      for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
        const std::int64_t count = std::min(kTileRows, num_rows - row);
        if (integer) {
          micro.integer_panel(weight.layout, panel_data, blocks, skip_rows(quantized, row, blocks),
                              count, tile.data());
        } else {
          micro.float_panel(weight.layout, panel_data, weight.in_features,
                            args.x.as<float>() + row * args.x.stride(0), args.x.stride(0), count,
                            tile.data());
        }
        store_tile(args, tile.data(), row, count, p * kRows);
      }
    }
  });
}

QuantizedTable cpu_quantized_table() { return {cpu_pack, linear_entry, cpu_gather_rows}; }

}  // namespace perpend
