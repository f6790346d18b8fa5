#include "perpend/kernels/cuda/event.h"

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "cuda event";

}  // namespace

Event::Event() {
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), kWhat);
  event_.reset(event);
}

void Event::Destroy::operator()(cudaEvent_t event) const { (void)cudaEventDestroy(event); }

void Event::record(cudaStream_t stream) const {
  cuda_check(cudaEventRecord(event_.get(), stream), kWhat);
}

bool Event::is_over() const {
  const cudaError_t status = cudaEventQuery(event_.get());
  if (status == cudaErrorNotReady) return false;
  cuda_check(status, kWhat);
  return true;
}

void Event::wait() const { cuda_check(cudaEventSynchronize(event_.get()), kWhat); }

}  // namespace perpend
