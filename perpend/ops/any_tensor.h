#pragma once

#include <cstdint>
#include <span>

#include <torch/headeronly/core/ScalarType.h>

#include "perpend/core/tensor_view.h"

// What holds for torch::Tensor and for the tensors of LibTorch's stable ABI alike.
namespace perpend {

// Throws Unsupported for a type that no kernel knows.
inline DType dtype_of(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Double:
      return DType::kF64;
    case ScalarType::Float:
      return DType::kF32;
    case ScalarType::Half:
      return DType::kF16;
    case ScalarType::BFloat16:
      return DType::kBF16;
    case ScalarType::Long:
      return DType::kI64;
    case ScalarType::Int:
      return DType::kI32;
    case ScalarType::Short:
      return DType::kI16;
    case ScalarType::Char:
      return DType::kI8;
    case ScalarType::Byte:
      return DType::kU8;
    case ScalarType::Bool:
      return DType::kBool;
    default:
      throw Unsupported(
          concat("tensor: dtype ", torch::headeronly::toString(type), " has no kernel"));
  }
}

// The memory of a tensor as kernels see it; borrowed, valid while the tensor lives. Throws
// Unsupported for a dtype or device that no kernel knows, InvalidArgument for more axes than views
// have.
template <class Tensor>
TensorView view_of_tensor(const Tensor& tensor) {
  const auto as_dims = [](const auto& values) {
    return Dims(std::span<const std::int64_t>(values.data(), values.size()));
  };
  TensorView view;
  view.data = tensor.data_ptr();
  view.dtype = dtype_of(tensor.scalar_type());
  view.shape = as_dims(tensor.sizes());
  view.strides = as_dims(tensor.strides());
  if (tensor.is_cuda()) {
    view.device = {DeviceType::kCuda, static_cast<int>(tensor.get_device())};
  } else if (!tensor.is_cpu()) {
    throw Unsupported("tensor: only the cpu and cuda have kernels");
  }
  return view;
}

// Kernels read rows of head_dim values; any other stride is theirs to follow.
template <class Tensor>
bool has_contiguous_rows(const Tensor& tensor) {
  const std::int64_t last = tensor.dim() - 1;
  return last < 0 || tensor.size(last) == 1 || tensor.stride(last) == 1;
}

}  // namespace perpend
