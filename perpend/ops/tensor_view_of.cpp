#include "perpend/ops/tensor_view_of.h"

#include "perpend/ops/any_tensor.h"

namespace perpend {

TensorView view_of(const torch::Tensor& tensor) { return view_of_tensor(tensor); }

torch::Device torch_device(Device device) {
  if (device.type == DeviceType::kCpu) return torch::kCPU;
  return {torch::kCUDA, static_cast<c10::DeviceIndex>(device.index)};
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
