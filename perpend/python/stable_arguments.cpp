#include "perpend/python/stable_arguments.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include "perpend/ops/any_tensor.h"
#include "perpend/ops/attention_call.h"

namespace perpend::python {
namespace {

// Owns a handle of the C interface until the end of a scope.
template <class Handle>
class Owned {
 public:
  using Delete = AOTITorchError (*)(Handle);
  Owned(Handle handle, Delete free) : handle_(handle), free_(free) {}
  ~Owned() { free_(handle_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Handle get() const { return handle_; }

 private:
  Handle handle_;
  Delete free_;
};

// Whether the elements of a tensor that has some fill its memory, each in a place of its own.
bool is_dense(const Tensor& tensor) {
  std::int64_t expected = 1;
  for (std::int64_t found = 0; found < tensor.dim(); ++found) {
    // Axes of one element are passed over as often as there are; any place is right for them.
    for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
      if (tensor.size(axis) > 1 && tensor.stride(axis) == expected) {
        expected *= tensor.size(axis);
        break;
      }
    }
  }
  return expected == tensor.numel();
}

Tensor empty_strided(const Tensor& like, const Dims& shape, const Dims& strides, ScalarType dtype) {
  std::int32_t device_type = 0;
  std::int32_t device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(shape.size(), shape.begin(), strides.begin(),
                                                  static_cast<std::int32_t>(dtype), device_type,
                                                  device_index, &made));
  return Tensor(made);
}

}  // namespace

TensorView view_of(const Tensor& tensor) { return view_of_tensor(tensor); }

TensorView view_of(const std::optional<Tensor>& tensor) {
  return tensor ? view_of(*tensor) : TensorView{};
}

std::string take_text(StringHandle handle) {
  const Owned<StringHandle> owned(handle, torch_delete_string);
  std::size_t length = 0;
  const char* data = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_string_length(owned.get(), &length));
  TORCH_ERROR_CODE_CHECK(torch_string_c_str(owned.get(), &data));
  return {data, length};
}

std::vector<std::string> take_texts(std::optional<StableListHandle> handle) {
  if (!handle) return {};
  const Owned<StableListHandle> owned(*handle, torch_delete_list);
  std::size_t size = 0;
  TORCH_ERROR_CODE_CHECK(torch_list_size(owned.get(), &size));
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < size; ++i) {
    StableIValue element = 0;
    TORCH_ERROR_CODE_CHECK(torch_list_get_item(owned.get(), i, &element));
    texts.push_back(take_text(torch::stable::detail::to<StringHandle>(element)));
  }
  return texts;
}

std::optional<Tensor> on_host(std::string_view name, const std::optional<Tensor>& tensor,
                              Stream gpu) {
  if (!tensor || tensor->is_cpu()) return tensor;
  check_can_copy(name, view_of(*tensor).device, gpu);
  return torch::stable::to(*tensor, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

Tensor with_contiguous_rows(const Tensor& tensor) {
  return has_contiguous_rows(tensor) ? tensor : torch::stable::contiguous(tensor);
}

Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

Tensor empty_dense(const Tensor& like, const Dims& shape, ScalarType dtype) {
  return empty_strided(like, shape, contiguous_strides(shape), dtype);
}

Tensor empty_rows_like(const Tensor& tensor) {
  if (tensor.numel() > 0 && has_contiguous_rows(tensor) && is_dense(tensor)) {
    const TensorView view = view_of(tensor);
    return empty_strided(tensor, view.shape, view.strides, tensor.scalar_type());
  }
  Tensor empty = torch::stable::empty_like(tensor);
  return has_contiguous_rows(empty) ? empty : torch::stable::new_empty(tensor, tensor.sizes());
}

}  // namespace perpend::python
