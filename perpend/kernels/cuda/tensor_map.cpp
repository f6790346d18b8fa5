#include "perpend/kernels/cuda/tensor_map.h"

#include <array>
#include <cstring>

#include <cuda_runtime_api.h>

#include "perpend/core/error.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/device/shared_layout.h"

namespace perpend {
namespace {

constexpr std::int64_t kValueBytes = 2;
constexpr std::int64_t kRowAlignment = 16;                  // bytes
constexpr std::int64_t kMaxStride = std::int64_t{1} << 40;  // bytes

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// From the driver that is there, without linking to it.
EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    constexpr unsigned kCudaVersion = 12000;  // which brought it
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kCudaVersion,
                                                cudaEnableDefault, &found),
               "attention");
    if (found != cudaDriverEntryPointSuccess || entry == nullptr) {
      throw DeviceError("attention: the driver has no cuTensorMapEncodeTiled; CUDA 12 is needed");
    }
    return reinterpret_cast<EncodeTiled>(entry);
  }();
  return function;
}

// An axis of one element has no stride to speak of.
std::int64_t stride_bytes(std::int64_t size, std::int64_t stride) {
  return size == 1 ? kRowAlignment : stride * kValueBytes;
}

std::array<std::int64_t, 3> strides_of(const BoxView& view) {
  return {stride_bytes(view.heads, view.head_stride), stride_bytes(view.tokens, view.token_stride),
          stride_bytes(view.batch, view.batch_stride)};
}

}  // namespace

BoxView box_view(const TensorView& view) {
  const bool ragged = view.num_axes() == 3;
  const int token = ragged ? 0 : 1;
  return {view.data,
          view.dtype,
          view.size(token + 2),
          view.size(token + 1),
          view.size(token),
          ragged ? 1 : view.size(0),
          view.stride(token + 1),
          view.stride(token),
          ragged ? 0 : view.stride(0)};
}

bool can_map(const BoxView& view) {
  if (reinterpret_cast<std::uintptr_t>(view.data) % kRowAlignment != 0) return false;
  if (view.head_dim * kValueBytes % kRowAlignment != 0) return false;
  for (const std::int64_t stride : strides_of(view)) {
    if (stride <= 0 || stride % kRowAlignment != 0 || stride >= kMaxStride) return false;
  }
  return view.tokens > 0 && view.batch > 0;
}

CUtensorMap make_tensor_map(const BoxView& view, int heads, int tokens, int row_bytes) {
  const auto strides = strides_of(view);
  const std::array<cuuint64_t, 4> sizes = {
      static_cast<cuuint64_t>(view.head_dim), static_cast<cuuint64_t>(view.heads),
      static_cast<cuuint64_t>(view.tokens), static_cast<cuuint64_t>(view.batch)};
  const std::array<cuuint64_t, 3> byte_strides = {static_cast<cuuint64_t>(strides[0]),
                                                  static_cast<cuuint64_t>(strides[1]),
                                                  static_cast<cuuint64_t>(strides[2])};
  const std::array<cuuint32_t, 4> box = {static_cast<cuuint32_t>(row_bytes / kValueBytes),
                                         static_cast<cuuint32_t>(heads),
                                         static_cast<cuuint32_t>(tokens), 1};
  const std::array<cuuint32_t, 4> every = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode_tiled()(&map,
                     view.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                     sizes.size(), view.data, sizes.data(), byte_strides.data(), box.data(),
                     every.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                     row_bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw DeviceError(concat("attention: the driver refuses a tensor map of ", view.tokens,
                             " tokens, ", view.heads, " heads, head_dim ", view.head_dim,
                             " (error ", static_cast<int>(status), ")"));
  }
  return map;
}

CUtensorMap make_tensor_map(const BoxView& view, int heads, int tokens) {
  return make_tensor_map(view, heads, tokens, device::row_bytes(static_cast<int>(view.head_dim)));
}

}  // namespace perpend
