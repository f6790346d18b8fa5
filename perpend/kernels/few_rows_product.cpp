#include "perpend/kernels/few_rows_product.h"

#include <cstdint>

namespace perpend {
namespace {

constexpr std::int64_t kChunk = 8;  // values of 16 bytes

bool has_whole_chunks(const TensorView& rows) {
  return rows.num_axes() == 2 && rows.size(1) % kChunk == 0 && rows.stride(1) == 1 &&
         (rows.size(0) <= 1 || rows.stride(0) % kChunk == 0) &&
         reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

}  // namespace

bool FewRowsProductArgs::fits() const {
  const bool is_16_bit = x.dtype == DType::kF16 || x.dtype == DType::kBF16;
  const bool out_fits = out.dtype == DType::kF32 || (!accumulate && out.dtype == x.dtype);
  const bool bias_fits = !bias || (bias.dtype == x.dtype && bias.num_axes() == 1 &&
                                   bias.stride(0) == 1 && bias.size(0) == weight.size(0));
  return bias_fits && is_16_bit && weight.dtype == x.dtype && out_fits && has_whole_chunks(x) &&
         has_whole_chunks(weight) && out.num_axes() == 2 && out.stride(1) == 1 &&
         x.size(0) <= kMostRows && weight.size(1) == x.size(1) && out.size(0) == x.size(0) &&
         out.size(1) == weight.size(0);
}

}  // namespace perpend
