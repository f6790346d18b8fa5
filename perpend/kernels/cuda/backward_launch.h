#pragma once

#include <type_traits>

#include <cuda_runtime_api.h>

#include "perpend/core/dtype.h"

// The backward kernels from the host: each instantiation is a source of its own, made from
// hopper_backward.cu.in and portable_backward.cu.in.

namespace perpend {

namespace device {
struct RowPassParams;
struct ColumnPassParams;
struct FusedPassParams;
struct OrderedPassParams;
template <class Pass>
struct HopperGradientParams;
template <class Pass>
struct PortableGradientParams;
}  // namespace device

// A pass, and whether scores are changed before softmax.
enum class GradientVariant { kRows, kRowsChanged, kColumns, kColumnsChanged, kFused, kOrdered };

constexpr bool changes_scores(GradientVariant variant) {
  return variant == GradientVariant::kRowsChanged || variant == GradientVariant::kColumnsChanged;
}

// What stands for the pass of a variant.
template <GradientVariant kVariant, class Rows, class Columns, class Fused, class Ordered>
using OfGradientPass = std::conditional_t<
    kVariant == GradientVariant::kOrdered, Ordered,
    std::conditional_t<kVariant == GradientVariant::kFused, Fused,
                       std::conditional_t<kVariant == GradientVariant::kRows ||
                                              kVariant == GradientVariant::kRowsChanged,
                                          Rows, Columns>>>;

template <GradientVariant kVariant>
using GradientPass = OfGradientPass<kVariant, device::RowPassParams, device::ColumnPassParams,
                                    device::FusedPassParams, device::OrderedPassParams>;

template <class Pass>
struct HopperGradientLaunch {
  const device::HopperGradientParams<Pass>* params;
  int num_items;
  int num_sms;
  cudaStream_t stream;
};

template <class Pass>
struct PortableGradientLaunch {
  const device::PortableGradientParams<Pass>* params;
  int num_items;
  cudaStream_t stream;
};

template <DType kType, int kHeadDim, GradientVariant kVariant>
void launch_hopper_gradient(const HopperGradientLaunch<GradientPass<kVariant>>& launch);

template <DType kType, int kHeadDim, class Pass>
void launch_portable_gradient(const PortableGradientLaunch<Pass>& launch);

}  // namespace perpend
