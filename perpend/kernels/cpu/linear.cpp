#include "perpend/kernels/cpu/linear.h"

#include <algorithm>
#include <array>

#include "perpend/kernels/cpu/linear_pack.h"
#include "perpend/kernels/cpu/panel.h"
#include "perpend/kernels/cpu/register_scope.h"

namespace perpend {
namespace {

using panel::kBlock;
using panel::kRows;

// Rows of x that go over all panels of a task together: few enough to stay in the first-level
// cache, while the weights of the task stay in the second.
constexpr std::int64_t kTileRows = 16;
constexpr std::size_t kRowTaskBytes = 1 << 15;   // weights of a task for one row
constexpr std::size_t kTileTaskBytes = 1 << 17;  // and for many

void check_matrix(const TensorView& view, std::int64_t columns, std::string_view name) {
  check(view.num_axes() == 2 && view.dtype == DType::kF32 && view.size(1) == columns &&
            (view.stride(1) == 1 || view.size(1) == 1),
        concat("linear: ", name, ": expected dense f32 rows of ", columns, ", found ", view));
}

Range outputs_of(const LinearArgs& args) {
  return args.outputs.empty() ? Range{0, args.weight->out_features} : args.outputs;
}

void check_args(const LinearArgs& args) {
  if (args.weight == nullptr || args.scratch == nullptr) bug("linear: no weight or scratch");
  check_matrix(args.x, args.weight->in_features, "x");
  const Range outputs = outputs_of(args);
  check(
      outputs.begin >= 0 && outputs.begin % kRows == 0 && outputs.end <= args.weight->out_features,
      concat("linear: outputs ", outputs, " must begin at a multiple of ", kRows, " and end by ",
             args.weight->out_features));
  check_matrix(args.out, outputs.size(), "out");
  check_eq(args.x.size(0), args.out.size(0), "linear: rows of x and out differ");
}

// Quantised activations in the caller's scratch memory.
QuantizedRows quantize_rows(const LinearMicro& micro, const LinearArgs& args, Stream stream) {
  const std::int64_t rows = args.x.size(0);
  const std::int64_t columns = args.weight->in_features;
  const std::int64_t blocks = columns / kBlock;
  const auto count = static_cast<std::size_t>(rows * blocks);
  const std::size_t bytes = count * (sizeof(ActivationTerms) + sizeof(ActivationFactors));
  if (args.scratch->size() < bytes) *args.scratch = AlignedBuffer(bytes);
  auto* terms = args.scratch->as<ActivationTerms>();
  const QuantizedRowsOut out{terms, reinterpret_cast<ActivationFactors*>(terms + count)};
  stream.threads->parallel_for(rows, 16, [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      micro.quantize_row(args.x.as<float>() + row * args.x.stride(0), columns, out + row * blocks);
    }
  });
  return {out.terms, out.factors};
}

// Loops over a whole panel have a constant length, so that the compiler unrolls them.
template <class Store>
void for_columns(std::int64_t num_columns, Store store) {
  if (num_columns == kRows) {
    for (std::int64_t i = 0; i < kRows; ++i) store(i);
  } else {
    for (std::int64_t i = 0; i < num_columns; ++i) store(i);
  }
}

// Adds bias and, where asked, what `out` holds, and stores the outputs that are wanted, from
// `first_output` on.
void store_tile(const LinearArgs& args, const float* tile, std::int64_t first_row,
                std::int64_t num_rows, std::int64_t first_output) {
  const Range outputs = outputs_of(args);
  const std::int64_t num_columns = std::min<std::int64_t>(kRows, outputs.end - first_output);
  for (std::int64_t row = 0; row < num_rows; ++row, tile += kRows) {
    float* out = args.out.as<float>() + (first_row + row) * args.out.stride(0) +
                 (first_output - outputs.begin);
    const float* bias = args.bias != nullptr ? args.bias + first_output : nullptr;
    if (bias != nullptr && args.accumulate) {
      for_columns(num_columns, [&](std::int64_t i) { out[i] += tile[i] + bias[i]; });
    } else if (bias != nullptr) {
      for_columns(num_columns, [&](std::int64_t i) { out[i] = tile[i] + bias[i]; });
    } else if (args.accumulate) {
      for_columns(num_columns, [&](std::int64_t i) { out[i] += tile[i]; });
    } else {
      for_columns(num_columns, [&](std::int64_t i) { out[i] = tile[i]; });
    }
  }
}

std::int64_t panels_of_a_task(std::int64_t num_rows, std::int64_t num_panels,
                              std::size_t panel_bytes, Stream stream) {
  const std::size_t task_bytes = num_rows == 1 ? kRowTaskBytes : kTileTaskBytes;
  const auto panels = static_cast<std::int64_t>(task_bytes / panel_bytes);
  // Four tasks a thread at least, so that no thread waits long for the last.
  const std::int64_t most = num_panels / (4 * stream.threads->num_threads());
  return std::max<std::int64_t>(1, num_rows == 1 ? panels : std::min(panels, most));
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
    case CpuIsa::kAvx512Bf16:
      return linear_micro_avx512();
    case CpuIsa::kAmx:
      return linear_micro_amx();
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
  const Range outputs = outputs_of(args);
  const std::int64_t first_panel = outputs.begin / kRows;
  const std::int64_t num_panels = ceil_div(outputs.end, kRows) - first_panel;
  const std::int64_t grain = panels_of_a_task(num_rows, num_panels, panel_bytes, stream);
  stream.threads->parallel_for(num_panels, grain, [&](Range panels) {
    const RegisterScope registers(micro);
    alignas(64) std::array<float, kTileRows * kRows> tile;
    for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
      const std::int64_t count = std::min(kTileRows, num_rows - row);
      for (std::int64_t p = first_panel + panels.begin; p < first_panel + panels.end; ++p) {
        const std::byte* panel_data =
            weight.blocks.data() + static_cast<std::size_t>(p) * panel_bytes;
        if (integer) {
          micro.integer_panel(weight.layout, panel_data, blocks, quantized + row * blocks, count,
                              tile.data());
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
