#include "perpend/kernels/cpu/fused.h"

#include <algorithm>

#include "perpend/core/demand.h"
#include "perpend/kernels/cpu/attention_drift.h"
#include "perpend/kernels/cpu/block_scores.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

// Rows a task takes, so that handing out a task costs little beside it: a single row of a model
// stays on the calling thread.
std::int64_t rows_per_task(std::int64_t values_per_row) {
  constexpr std::int64_t kValues = 1 << 14;
  return std::max<std::int64_t>(1, kValues / std::max<std::int64_t>(1, values_per_row));
}

float* row_of(const TensorView& view, std::int64_t row) {
  return view.as<float>() + row * view.stride(0);
}

const RowMicro& best_micro() {
  static const RowMicro& micro = row_micro(best_cpu_isa());
  return micro;
}

std::byte* slot_of(const TensorView& pages, std::int64_t slot, std::int64_t head) {
  const std::int64_t page_size = pages.size(1);
  const std::int64_t offset = slot / page_size * pages.stride(0) +
                              slot % page_size * pages.stride(1) + head * pages.stride(2);
  return pages.as<std::byte>() + offset * static_cast<std::int64_t>(size_of(pages.dtype));
}

void rotate_row(const RowMicro& micro, const RotaryCacheArgs& args, std::int64_t row) {
  const std::int64_t position = args.positions.as<const std::int32_t>()[row];
  const auto half = static_cast<int>(args.cos.size(1));
  const auto dim = static_cast<int>(args.q.size(2));
  const float* cos = row_of(args.cos, position);
  const float* sin = row_of(args.sin, position);
  for (std::int64_t head = 0; head < args.q.size(1); ++head) {
    float* q = row_of(args.q, row) + head * args.q.stride(1);
    micro.rotate(args.layout, cos, sin, half, q);
    if (!args.kept) continue;
    std::copy_n(
        q, dim,
        row_of(args.kept, args.places.as<const std::int64_t>()[row]) + head * args.kept.stride(1));
  }
  if (!args.k) return;
  const std::int64_t slot = args.slots.as<const std::int64_t>()[row];
  constexpr int kMaxDim = 512;
  float turned[kMaxDim];
  for (std::int64_t head = 0; head < args.k.size(1); ++head) {
    std::copy_n(row_of(args.k, row) + head * args.k.stride(1), dim, turned);
    micro.rotate(args.layout, cos, sin, half, turned);
    micro.store(args.k_pages.dtype, turned, dim, slot_of(args.k_pages, slot, head));
    micro.store(args.v_pages.dtype, row_of(args.v, row) + head * args.v.stride(1), dim,
                slot_of(args.v_pages, slot, head));
  }
}

}  // namespace

const RowMicro& row_micro(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return row_micro_scalar();
    case CpuIsa::kAvx2:
      return row_micro_avx2();
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Bf16:
    case CpuIsa::kAmx:
      return row_micro_avx512();
  }
  bug("row_micro: unknown instruction set");
}

void cpu_rms_norm(const RowMicro& micro, const RmsNormArgs& args, Stream stream) {
  check_rms_norm(args);
  const std::int64_t rows = args.x.size(0);
  const std::int64_t dim = args.x.size(1);
  stream.threads->parallel_for(rows, rows_per_task(dim), [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      if (args.kept) {
        std::copy_n(row_of(args.x, row), dim,
                    row_of(args.kept, args.places.as<const std::int64_t>()[row]));
      }
      micro.rms_norm(row_of(args.x, row), args.residual ? row_of(args.residual, row) : nullptr,
                     args.weight.as<float>(), args.epsilon, dim, row_of(args.out, row));
    }
  });
}

void cpu_rotary_cache(const RowMicro& micro, const RotaryCacheArgs& args, Stream stream) {
  check_rotary_cache(args);
  demand(args.q.size(2) <= 512, "rotary: head_dim must be at most 512 (", args.q.size(2), ")");
  const std::int64_t heads = args.q.size(1) + (args.k ? 2 * args.k.size(1) : 0);
  const std::int64_t values = heads * args.q.size(2);
  stream.threads->parallel_for(args.q.size(0), rows_per_task(values), [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) rotate_row(micro, args, row);
  });
}

void cpu_gated_mlp(const RowMicro& micro, const GatedMlpArgs& args, Stream stream) {
  check_gated_mlp(args);
  const std::int64_t rows = args.out.size(0);
  const std::int64_t dim = args.out.size(1);
  stream.threads->parallel_for(rows, rows_per_task(2 * dim), [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      const float* gate = row_of(args.gate_up, row);
      micro.gated(args.activation, gate, gate + dim, dim, row_of(args.out, row));
    }
  });
}

void cpu_vocabulary(const RowMicro& micro, const VocabularyArgs& args, Stream stream) {
  check_vocabulary(args);
  const std::int64_t rows = args.logits.size(0);
  const std::int64_t vocab_size = args.logits.size(1);
  stream.threads->parallel_for(rows, 1, [&](Range range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      args.out[static_cast<std::size_t>(row)] =
          micro.summarize(row_of(args.logits, row), vocab_size);
    }
  });
}

FusedTable cpu_fused_table() {
  return {
      [](const RmsNormArgs& args, Stream stream) { cpu_rms_norm(best_micro(), args, stream); },
      [](const RotaryCacheArgs& args, Stream stream) {
        cpu_rotary_cache(best_micro(), args, stream);
      },
      [](const GatedMlpArgs& args, Stream stream) { cpu_gated_mlp(best_micro(), args, stream); },
      [](const VocabularyArgs& args, Stream stream) { cpu_vocabulary(best_micro(), args, stream); },
      /*few_rows_product=*/nullptr,
      cpu_block_scores,
      cpu_attention_drift,
  };
}

}  // namespace perpend
