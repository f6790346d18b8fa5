#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

// Arguments of an operator as LibTorch's stable ABI hands them over.
namespace perpend::python {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Views of tensors; borrowed, valid while the tensor lives. Throws Unsupported for a dtype, device
// or rank that kernels do not know.
TensorView view_of(const Tensor& tensor);
TensorView view_of(const std::optional<Tensor>& tensor);  // absent: an absent view

// The text of a `str` or `str[]?` argument, whose handle is released; no texts for None. (What
// LibTorch 2.11 offers for std::string leaks one string a call.)
std::string take_text(StringHandle handle);
std::vector<std::string> take_texts(std::optional<StableListHandle> handle);

// On the CPU, where plans are made: the tensor itself, or a copy, waited for, of one on a GPU.
// Throws InvalidArgument when the GPU's stream is being captured and there is none to wait for.
std::optional<Tensor> on_host(std::string_view name, const std::optional<Tensor>& tensor,
                              Stream gpu);

// The tensor itself where its last axis is contiguous, or all of it is, else a copy. (LibTorch's
// own contiguous() and empty_like() go through the dispatcher, which costs microseconds.)
Tensor with_contiguous_rows(const Tensor& tensor);
Tensor dense(const Tensor& tensor);
// Uninitialised tensors on the device of another: dense, and of the shape and, where rows allow,
// the layout of that one.
Tensor empty_dense(const Tensor& like, const Dims& shape, ScalarType dtype);
Tensor empty_rows_like(const Tensor& tensor);

}  // namespace perpend::python
