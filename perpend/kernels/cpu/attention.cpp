#include "perpend/kernels/cpu/attention.h"

#include "perpend/kernels/cpu/attention_backward.h"
#include "perpend/kernels/cpu/attention_few_rows.h"
#include "perpend/kernels/cpu/attention_forward.h"

namespace perpend {
namespace {

bool supports(const AttentionSpec& spec) {
  const auto is_float = [](DType dtype) {
    return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  };
  const bool is_double = spec.q_dtype == DType::kF64 && spec.kv_dtype == DType::kF64;
  return (is_double || (is_float(spec.q_dtype) && is_float(spec.kv_dtype))) && spec.head_dim >= 1 &&
         spec.head_dim <= tile::kMaxDim;
}

Tiling tiling(const AttentionSpec& /*spec*/, Sweep /*sweep*/) {
  return {.outer_tile = 128, .outer_part = 128, .inner_tile = 64};
}

const TileMicro<float>& float_micro(const AttentionMicro& micro, const AttentionArgs& args) {
  const bool pairs = args.q.dtype == DType::kBF16 && args.k.dtype == DType::kBF16;
  return pairs ? micro.pairs : micro.floats;
}

template <CpuIsa isa>
AttentionTable table_of() {
  return {supports, tiling,
          [](const AttentionArgs& args, const Schedule& schedule, Stream stream) {
            cpu_attention_forward(attention_micro(isa), args, schedule, stream);
          },
          [](const AttentionGradArgs& args, const Schedule& rows, const Schedule& columns,
             Stream stream) {
            cpu_attention_backward(attention_micro(isa), args, rows, columns, stream);
          },
          "head_dim 1 to 256 in f32, f16, bf16 and f64"};
}

bool takes_all(const Schedule& /*schedule*/, const WorkItem& /*item*/) { return true; }

// The choice is an item's own: whoever shares the batch must not change its bits.
bool takes_many_rows(const Schedule& schedule, const WorkItem& item) {
  return !has_few_rows(schedule, item);
}

}  // namespace

const AttentionMicro& attention_micro(CpuIsa isa) {
  static const AttentionMicro scalar{few_rows_micro_scalar(), tile_micro_scalar(),
                                     tile_micro_scalar(), tile_micro_f64()};
  static const AttentionMicro avx2{few_rows_micro_avx2(), tile_micro_avx2(), tile_micro_avx2(),
                                   tile_micro_f64()};
  static const AttentionMicro avx512{few_rows_micro_avx512(), tile_micro_avx512(),
                                     tile_micro_avx512(), tile_micro_f64()};
  static const AttentionMicro avx512bf16{few_rows_micro_avx512(), tile_micro_avx512(),
                                         tile_micro_avx512bf16(), tile_micro_f64()};
  static const AttentionMicro amx{few_rows_micro_avx512(), tile_micro_amx_f32(), tile_micro_amx(),
                                  tile_micro_f64()};
  switch (isa) {
    case CpuIsa::kScalar:
      return scalar;
    case CpuIsa::kAvx2:
      return avx2;
    case CpuIsa::kAvx512:
      return avx512;
    case CpuIsa::kAvx512Bf16:
      return avx512bf16;
    case CpuIsa::kAmx:
      return amx;
  }
  bug("attention_micro: unknown instruction set");
}

void cpu_attention_forward(const AttentionMicro& micro, const AttentionArgs& args,
                           const Schedule& schedule, Stream stream) {
  if (args.q.dtype == DType::kF64) {
    return attention_forward_tiles(micro.doubles, args, schedule, takes_all, stream);
  }
  attention_forward_tiles(float_micro(micro, args), args, schedule, takes_many_rows, stream);
  attention_forward_few_rows(micro.few_rows, args, schedule, stream);
}

void cpu_attention_backward(const AttentionMicro& micro, const AttentionGradArgs& args,
                            const Schedule& rows, const Schedule& columns, Stream stream) {
  if (args.forward.q.dtype == DType::kF64) {
    return attention_backward_tiles(micro.doubles, args, rows, columns, stream);
  }
  attention_backward_tiles(float_micro(micro, args.forward), args, rows, columns, stream);
}

AttentionTable cpu_attention_table(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return table_of<CpuIsa::kScalar>();
    case CpuIsa::kAvx2:
      return table_of<CpuIsa::kAvx2>();
    case CpuIsa::kAvx512:
      return table_of<CpuIsa::kAvx512>();
    case CpuIsa::kAvx512Bf16:
      return table_of<CpuIsa::kAvx512Bf16>();
    case CpuIsa::kAmx:
      return table_of<CpuIsa::kAmx>();
  }
  bug("cpu_attention_table: unknown instruction set");
}

}  // namespace perpend
