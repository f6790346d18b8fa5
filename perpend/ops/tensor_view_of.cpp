#include "perpend/ops/tensor_view_of.h"

#include <span>

namespace perpend {
namespace {

DType dtype_of(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat64:
      return DType::kF64;
    case torch::kFloat32:
      return DType::kF32;
    case torch::kFloat16:
      return DType::kF16;
    case torch::kBFloat16:
      return DType::kBF16;
    case torch::kInt64:
      return DType::kI64;
    case torch::kInt32:
      return DType::kI32;
    case torch::kInt16:
      return DType::kI16;
    case torch::kInt8:
      return DType::kI8;
    case torch::kUInt8:
      return DType::kU8;
    case torch::kBool:
      return DType::kBool;
    default:
      throw Unsupported(concat("tensor: dtype ", c10::toString(type), " has no kernel"));
  }
}

}  // namespace

TensorView view_of(const torch::Tensor& tensor) {
  TensorView view;
  view.data = tensor.data_ptr();
  view.dtype = dtype_of(tensor.scalar_type());
  view.shape = Dims(std::span<const std::int64_t>(tensor.sizes().data(), tensor.sizes().size()));
  view.strides =
      Dims(std::span<const std::int64_t>(tensor.strides().data(), tensor.strides().size()));
  if (tensor.is_cuda()) {
    view.device = {DeviceType::kCuda, tensor.device().index()};
  } else if (!tensor.is_cpu()) {
    throw Unsupported(concat("tensor: device ", tensor.device().str(), " has no kernels"));
  }
  return view;
}

torch::ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return torch::kFloat64;
    case DType::kF32:
      return torch::kFloat32;
    case DType::kF16:
      return torch::kFloat16;
    case DType::kBF16:
      return torch::kBFloat16;
    case DType::kI64:
      return torch::kInt64;
    case DType::kI32:
      return torch::kInt32;
    case DType::kI16:
      return torch::kInt16;
    case DType::kI8:
      return torch::kInt8;
    case DType::kU8:
      return torch::kUInt8;
    case DType::kBool:
      return torch::kBool;
  }
  bug("scalar_type_of: unknown dtype");
}

}  // namespace perpend
