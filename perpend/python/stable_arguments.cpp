#include "perpend/python/stable_arguments.h"

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

Tensor empty_rows_like(const Tensor& tensor) {
  Tensor empty = torch::stable::empty_like(tensor);
  return has_contiguous_rows(empty) ? empty : torch::stable::new_empty(tensor, tensor.sizes());
}

}  // namespace perpend::python
