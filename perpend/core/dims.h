#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "perpend/core/error.h"

namespace perpend {

// Sizes or strides of a tensor of up to kMaxDims axes, without heap memory.
class Dims {
 public:
  static constexpr int kMaxDims = 6;

  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values)
      : Dims(std::span<const std::int64_t>(values.begin(), values.size())) {}
  explicit Dims(std::span<const std::int64_t> values) {
    if (values.size() > kMaxDims) {
      throw InvalidArgument(concat("tensor: at most ", kMaxDims, " axes (", values.size(), ")"));
    }
    for (std::int64_t value : values) values_[static_cast<std::size_t>(size_++)] = value;
  }

  int size() const { return size_; }
  std::int64_t operator[](int axis) const { return values_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return values_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + size_; }

  friend bool operator==(const Dims& a, const Dims& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::array<std::int64_t, kMaxDims> values_{};
  int size_ = 0;
};

// Product of all sizes; 1 for no axes.
inline std::int64_t num_elements(const Dims& shape) {
  std::int64_t count = 1;
  for (std::int64_t size : shape) count *= size;
  return count;
}

// Strides, in elements, of a dense row-major tensor.
inline Dims contiguous_strides(const Dims& shape) {
  Dims strides = shape;
  std::int64_t stride = 1;
  for (int axis = shape.size() - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

inline std::ostream& operator<<(std::ostream& out, const Dims& dims) {
  out << "[";
  for (int axis = 0; axis < dims.size(); ++axis) out << (axis ? ", " : "") << dims[axis];
  return out << "]";
}

}  // namespace perpend
