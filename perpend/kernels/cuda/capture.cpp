#include "perpend/kernels/cuda/capture.h"

#include <atomic>
#include <utility>

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "cuda graph";

struct Kept {
  std::shared_ptr<const void> object;
  Kept* next = nullptr;
};

// Lives as long as CUDA's own threads, which outlive the objects of this library.
constinit std::atomic<Kept*> given_back = nullptr;

void CUDART_CB give_back(void* kept_given) {
  auto* kept = static_cast<Kept*>(kept_given);
  kept->next = given_back.load(std::memory_order_relaxed);
  while (!given_back.compare_exchange_weak(kept->next, kept, std::memory_order_release,
                                           std::memory_order_relaxed)) {
  }
}

void destroy_given_back() {
  if (given_back.load(std::memory_order_relaxed) == nullptr) return;
  std::unique_ptr<Kept> first(given_back.exchange(nullptr, std::memory_order_acquire));
  while (first != nullptr) first.reset(first->next);
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cuda_check(cudaStreamIsCapturing(stream, &status), kWhat);
  return status != cudaStreamCaptureStatusNone;
}

void keep_for_graph(cudaStream_t stream, std::shared_ptr<const void> object) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = nullptr;
  cuda_check(cudaStreamGetCaptureInfo(stream, &status, nullptr, &graph), kWhat);
  if (status != cudaStreamCaptureStatusActive) {
    destroy_given_back();
    return;
  }
  auto kept = std::make_unique<Kept>(Kept{std::move(object)});
  cudaUserObject_t user_object = nullptr;
  cuda_check(
      cudaUserObjectCreate(&user_object, kept.get(), give_back, 1, cudaUserObjectNoDestructorSync),
      kWhat);
  (void)kept.release();  // given back by the user object
  const cudaError_t retained =
      cudaGraphRetainUserObject(graph, user_object, 1, cudaGraphUserObjectMove);
  if (retained != cudaSuccess) (void)cudaUserObjectRelease(user_object, 1);
  cuda_check(retained, kWhat);
}

}  // namespace perpend
