#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda_runtime_api.h>

#include "perpend/core/range.h"

namespace perpend {

// Memory of the current device, freed with its owner, when the device has done what it was given.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Throws OutOfMemory. Allowed while a stream is being captured, as is freeing it: the memory is
  // not the graph's.
  explicit DeviceMemory(std::size_t num_bytes);

  std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

// A stream that waits for no other, of the current device.
class OwnStream {
 public:
  OwnStream();
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  cudaStream_t get() const { return stream_; }
  // Until it has done all that it was given.
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

// Arrays one after another, each aligned.
class ArrayLayout {
 public:
  static constexpr std::size_t kAlignment = 256;

  // Where the array begins.
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t offset = bytes_.size();
    bytes_.resize(static_cast<std::size_t>(
        round_up(static_cast<std::int64_t>(offset + values.size() * sizeof(T)),
                 static_cast<std::int64_t>(kAlignment))));
    if (!values.empty())
      std::memcpy(bytes_.data() + offset, values.data(), values.size() * sizeof(T));
    return offset;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// A copy on the current device, there when this returns.
DeviceMemory upload(const std::vector<std::byte>& bytes, std::size_t room_behind);

// Counters from which launches take their items, of the current device. Must outlive what was
// launched with them, captured graphs included (see keep_for_graph()).
class LaunchCounters {
 public:
  // What the first of them begin as, in memory that comes with what the launches read.
  static std::vector<unsigned> zeros() { return std::vector<unsigned>(kCountersPerBlock); }
  void begin_in(std::byte* memory) {
    counters_ = reinterpret_cast<unsigned*>(memory);
    left_ = kCountersPerBlock;
  }

  // A counter that is 0 and that no other launch uses at the same time: launches of one stream
  // follow each other and share one, each captured launch gets its own, since its graph may run
  // beside anything. A kernel leaves it 0.
  unsigned* for_stream(cudaStream_t stream) const;

 private:
  static constexpr int kCountersPerBlock = 64;

  struct StreamCounter {
    unsigned long long stream_id = 0;
    unsigned* counter = nullptr;
  };

  unsigned* make() const;

  mutable std::mutex mutex_;
  mutable std::vector<DeviceMemory> blocks_;
  mutable unsigned* counters_ = nullptr;  // of which the first `left_` are unused
  mutable int left_ = 0;
  mutable std::vector<StreamCounter> known_;
};

}  // namespace perpend
