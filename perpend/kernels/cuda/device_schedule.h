#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda_runtime_api.h>

#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/schedule_image.h"

namespace perpend {

// Memory of the current device, freed with its owner.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Throws OutOfMemory. Allowed while a stream is being captured: the memory is not the graph's.
  explicit DeviceMemory(std::size_t num_bytes);

  std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

// A schedule in the memory of one GPU, with the counters from which launches take their items. Must
// outlive what was launched with it, captured graphs included.
class DeviceSchedule {
 public:
  // Uploads to the current device and waits for that.
  explicit DeviceSchedule(const ScheduleImage& image, int group_size);

  const device::Lists& lists() const { return lists_; }
  bool skips_parts() const { return skips_parts_; }
  bool has_packed() const { return has_packed_; }
  bool has_separate() const { return has_separate_; }

  // A counter that is 0 and that no other launch uses at the same time: launches of one stream
  // follow each other and share one, each captured launch gets its own, since its graph may run
  // beside anything. A kernel leaves it 0.
  unsigned* counter_for(cudaStream_t stream) const;

 private:
  static constexpr int kCountersPerBlock = 64;

  unsigned* new_counter() const;

  DeviceMemory memory_;
  device::Lists lists_;
  bool skips_parts_;
  bool has_packed_;
  bool has_separate_;

  struct StreamCounter {
    unsigned long long stream_id = 0;
    unsigned* counter = nullptr;
  };
  mutable std::mutex mutex_;
  mutable std::vector<DeviceMemory> counter_blocks_;
  mutable int counters_left_ = 0;
  mutable std::vector<StreamCounter> stream_counters_;
};

// The copy of `schedule` on the current device, whose ordinal is `device_index`: made at the first
// call and kept with the schedule. Throws as make_schedule_image().
std::shared_ptr<const DeviceSchedule> device_schedule(const Schedule& schedule, int head_dim,
                                                      int device_index);

}  // namespace perpend
