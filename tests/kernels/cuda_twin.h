#pragma once

// What tests of CUDA kernels that stand alone share: values on both sides and in 16 bits.

#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/table.h"

namespace perpend {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
inline const Device kGpu{DeviceType::kCuda, 0};

// The same values in host and in device memory.
template <class T>
class Twin {
 public:
  explicit Twin(std::vector<T> values) : host(std::move(values)) {
    void* memory = nullptr;
    cuda_check(cudaMalloc(&memory, host.size() * sizeof(T) + 1), "test");
    memory_.reset(static_cast<T*>(memory));
    cuda_check(cudaMemcpy(memory, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
               "test");
  }
  TensorView on_cpu(DType dtype, const Dims& shape) {
    return TensorView::dense(host.data(), dtype, shape);
  }
  TensorView on_gpu(DType dtype, const Dims& shape) {
    return TensorView::dense(memory_.get(), dtype, shape, kGpu);
  }
  T* gpu_data() { return memory_.get(); }
  std::vector<T> from_gpu() const {
    std::vector<T> values(host.size());
    cuda_check(
        cudaMemcpy(values.data(), memory_.get(), host.size() * sizeof(T), cudaMemcpyDeviceToHost),
        "test");
    return values;
  }

  std::vector<T> host;

 private:
  struct Free {
    void operator()(T* memory) const { (void)cudaFree(memory); }
  };
  std::unique_ptr<T, Free> memory_;
};

// What the store of one dtype holds, as f32.
inline std::vector<float> decode(const std::vector<std::byte>& bytes, DType dtype) {
  std::vector<float> values(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&values[i], bytes.data() + 4 * i, 4);
      continue;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    values[i] = dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  return values;
}

// The same values in one dtype, as bytes.
inline std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits =
        dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    if (dtype == DType::kF32) std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    if (dtype != DType::kF32) std::memcpy(bytes.data() + 2 * i, &bits, 2);
  }
  return bytes;
}

// Of a value in one dtype, relative.
inline float rounding_of(DType dtype) {
  return dtype == DType::kF32 ? 0.0F : dtype == DType::kF16 ? 5e-4F : 4e-3F;
}

constexpr DType kSixteenBits[] = {DType::kF16, DType::kBF16};

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
      (void)cudaGetLastError();
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
  }

  Twin<float> random_twin(std::int64_t count, float scale = 3.0F) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = (2 * random_.next_float() - 1) * scale;
    return Twin<float>(std::move(values));
  }
  static Twin<float> poisoned_twin(std::int64_t count) {
    return Twin<float>(std::vector<float>(static_cast<std::size_t>(count), kPoison));
  }

  Random random_{17};
};

}  // namespace perpend
