#include "perpend/kernels/cuda/device_memory.h"

#include "perpend/kernels/cuda/capture.h"
#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention";

}  // namespace

OwnStream::OwnStream() {
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), kWhat);
}

OwnStream::~OwnStream() { (void)cudaStreamDestroy(stream_); }

void OwnStream::wait() const { cuda_check(cudaStreamSynchronize(stream_), kWhat); }

DeviceMemory::DeviceMemory(std::size_t num_bytes) {
  const RelaxedCapture relaxed;
  void* data = nullptr;
  cuda_check(cudaMalloc(&data, num_bytes), kWhat);
  data_.reset(static_cast<std::byte*>(data));
}

void DeviceMemory::Free::operator()(std::byte* data) const {
  const RelaxedCapture relaxed;
  (void)cudaFree(data);
}

DeviceMemory upload(const std::vector<std::byte>& bytes, std::size_t room_behind) {
  DeviceMemory memory(bytes.size() + room_behind);
  const RelaxedCapture relaxed;
  const OwnStream stream;
  cuda_check(cudaMemcpyAsync(memory.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice,
                             stream.get()),
             kWhat);
  stream.wait();
  return memory;
}

unsigned* LaunchCounters::make() const {
  if (left_ == 0) {
    blocks_.push_back(upload(std::vector<std::byte>(zeros().size() * sizeof(unsigned)), 0));
    counters_ = reinterpret_cast<unsigned*>(blocks_.back().data());
    left_ = kCountersPerBlock;
  }
  return counters_ + --left_;
}

unsigned* LaunchCounters::for_stream(cudaStream_t stream) const {
  const bool is_captured = is_capturing(stream);
  const std::scoped_lock lock(mutex_);
  if (is_captured) return make();
  unsigned long long id = 0;  // unlike the handle, never given to another stream
  cuda_check(cudaStreamGetId(stream, &id), kWhat);
  for (const StreamCounter& known : known_) {
    if (known.stream_id == id) return known.counter;
  }
  known_.push_back({id, make()});
  return known_.back().counter;
}

}  // namespace perpend
