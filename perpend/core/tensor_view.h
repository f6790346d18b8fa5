#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>

#include "perpend/core/device.h"
#include "perpend/core/dims.h"
#include "perpend/core/dtype.h"

namespace perpend {

// Borrowed memory with a type, a shape and strides (in elements). Owns nothing; whoever made it
// keeps the memory alive. A default-made view is "absent": data is null, used for optional
// arguments.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Dims shape;
  Dims strides;
  Device device;

  // A dense row-major view.
  static TensorView dense(void* data, DType dtype, const Dims& shape, Device device = {}) {
    return {data, dtype, shape, contiguous_strides(shape), device};
  }
  static TensorView dense(float* data, const Dims& shape) {
    return dense(data, DType::kF32, shape);
  }

  explicit operator bool() const { return data != nullptr; }
  int num_axes() const { return shape.size(); }
  std::int64_t size(int axis) const { return shape[axis]; }
  std::int64_t stride(int axis) const { return strides[axis]; }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  bool is_contiguous() const {
    std::int64_t expected = 1;
    for (int axis = shape.size() - 1; axis >= 0; --axis) {
      if (shape[axis] != 1 && strides[axis] != expected) return false;
      expected *= shape[axis];
    }
    return true;
  }
};

inline std::ostream& operator<<(std::ostream& out, const TensorView& view) {
  return out << view.dtype << view.shape << " on " << view.device;
}

}  // namespace perpend
