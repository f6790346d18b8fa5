#pragma once

namespace perpend::device {

// A candidate for the largest value of a row and where it stands.
struct Peak {
  float value;
  int index;
};

template <class T>
__device__ T shuffle_down(T value, int step) {
  return __shfl_down_sync(0xffffffffU, value, step);
}

template <>
__device__ inline Peak shuffle_down(Peak peak, int step) {
  return {shuffle_down(peak.value, step), shuffle_down(peak.index, step)};
}

}  // namespace perpend::device
