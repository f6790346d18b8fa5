#pragma once

#include <cuda_runtime_api.h>

#include "perpend/core/dtype.h"

namespace perpend {

namespace device {
struct StatisticsParams;
struct RepackParams;
struct QueryGradientParams;
}  // namespace device

// `dtype`: of o and d_o, f32, f16 or bf16.
void launch_statistics(const device::StatisticsParams& params, DType dtype, cudaStream_t stream);

// From f32 or 16-bit values to `to`, f16 or bf16.
void launch_repack(const device::RepackParams& params, DType from, DType to, cudaStream_t stream);

// `dtype`: of dq, f32, f16 or bf16.
void launch_query_gradient(const device::QueryGradientParams& params, DType dtype,
                           cudaStream_t stream);

}  // namespace perpend
