#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <cuda_runtime_api.h>

#include "perpend/kernels/cuda/capture.h"

namespace perpend {

// A copy of host bytes in the memory of one GPU that launches read until it is dropped. To free
// memory of a GPU is to wait until that has done all it was given; so memory that is dropped goes
// to a store of the process, from which later copies take it once the launches that read it are
// over. A run that plans batch after batch allocates nothing after a few of them.
class ScheduleMemory {
 public:
  ScheduleMemory();
  // On the current device: there when this returns, which waits for the copy and for nothing else.
  // Throws OutOfMemory and DeviceError.
  explicit ScheduleMemory(const std::vector<std::byte>& bytes);
  ~ScheduleMemory();
  ScheduleMemory(ScheduleMemory&& other) noexcept;
  ScheduleMemory& operator=(ScheduleMemory&& other) noexcept;

  std::byte* data() const;
  // What was put on `stream` so far reads this memory. Memory that a captured graph reads is freed,
  // since nobody can tell when the graph runs. Safe to use from several threads.
  void read_until_now(cudaStream_t stream) const;

 private:
  class Block;
  class Store;

  std::shared_ptr<Store> store_;
  std::unique_ptr<Block> block_;
};

// An object on the device whose memory() launches on a stream read, in the scope of this one.
template <class OnDevice>
class ReadByLaunches {
 public:
  ReadByLaunches(std::shared_ptr<const OnDevice> object, cudaStream_t stream)
      : object_(std::move(object)), stream_(stream) {
    keep_for_graph(stream_, object_);
  }
  ~ReadByLaunches() { object_->memory().read_until_now(stream_); }
  ReadByLaunches(const ReadByLaunches&) = delete;
  ReadByLaunches& operator=(const ReadByLaunches&) = delete;

  const OnDevice* operator->() const { return object_.get(); }

 private:
  std::shared_ptr<const OnDevice> object_;
  cudaStream_t stream_;
};

}  // namespace perpend
