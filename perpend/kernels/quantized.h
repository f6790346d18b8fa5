#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "perpend/core/aligned_buffer.h"
#include "perpend/core/range.h"
#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"
#include "perpend/formats/block_format.h"

namespace perpend {

// How a product is computed, for one weight in memory.
enum class LinearMode {
  // Activations are quantised on the fly to 16 bits, two int8 terms, in blocks of 32; products are
  // exact integers, scaled and summed in f32. For sources with blocks of 32 (Q4_0, Q4_1, Q5_0,
  // Q5_1, Q8_0); F32, F16 and BF16 stay as they are, K formats are dequantised to f16 once, when
  // packed.
  kQuantized,
  // Weights become f32 when packed; f32 multiply-add. The exact reference path.
  kF32,
};

// How the weights of a panel lie in memory. The integer layouts hold unsigned quants u with
// weight = scale * (u - zero point), or weight = scale * u + min.
enum class PanelLayout : std::uint8_t {
  kNibbles,     // 4 bit, zero point 8
  kNibblesMin,  // 4 bit, a min a block
  kBytes,       // 8 bit, zero point 128
  kBytesMin,    // 8 bit, a min a block
  kF32,
  kF16,
  kBF16,
};

// Rows of one weight as they lie in a file: [out_features, in_features] in `format`, row after row.
struct WeightSource {
  BlockFormat format = BlockFormat::kF32;
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  const std::byte* blocks = nullptr;  // row_bytes(format, in_features) * out_features bytes
};

// A weight laid out for the kernels of one device: `kPanel` output rows interleaved, so that one
// vector register holds one step of that many dot products and no horizontal sum is ever needed.
// The blocks stay blocks: a Q4_1 weight takes as many bytes here as in its file (plus row padding).
struct PackedWeight {
  static constexpr int kPanel = 16;

  PanelLayout layout = PanelLayout::kF32;
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  AlignedBuffer blocks;

  std::size_t num_bytes() const { return blocks.size(); }
};

// out[r, :] = W x[r, :] (+ bias) for every row r, of all outputs or of some.
struct LinearArgs {
  TensorView x;  // [rows, in_features] f32, last axis contiguous
  const PackedWeight* weight = nullptr;
  const float* bias = nullptr;       // [out_features] or null
  TensorView out;                    // [rows, out_features] f32, last axis contiguous; overwritten
  bool accumulate = false;           // out += instead of out = (a residual connection for free)
  AlignedBuffer* scratch = nullptr;  // grown when too small, kept by the caller between calls
  // Only these outputs, which are the columns of `out`; they begin at a multiple of
  // PackedWeight::kPanel. Empty: all.
  Range outputs = {};
};

struct QuantizedTable {
  // Lays out one or more weights of equal in_features as one matrix, their rows one after another
  // (q, k, v or gate and up in a single product). Sources in different formats become bf16, or f32
  // in kF32 mode. Throws InvalidArgument for shapes that do not fit.
  PackedWeight (*pack)(std::span<const WeightSource> sources, LinearMode mode, Stream stream);

  // Bitwise independent of the number of threads and of which other rows are in the call. The
  // integer kernels give the same bits on every instruction set.
  void (*linear)(const LinearArgs& args, Stream stream);

  // out[i, :] = row rows[i] of the weight, dequantised to f32 (an embedding look-up).
  void (*gather_rows)(const PackedWeight& weight, std::span<const std::int32_t> rows,
                      TensorView out, Stream stream);
};

}  // namespace perpend
