#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "perpend/core/dtype.h"

namespace perpend {

template <class T>
struct Element {};

// Calls function(Element<T>{}) with the C++ type of f32, f16 or bf16; arguments are checked
// already.
template <class Function>
void dispatch_element(DType dtype, Function function) {
  switch (dtype) {
    case DType::kF32:
      return function(Element<float>{});
    case DType::kF16:
      return function(Element<__half>{});
    default:
      return function(Element<__nv_bfloat16>{});
  }
}

}  // namespace perpend
