#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "perpend/kernels/cuda/decode_image.h"
#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/device_memory.h"
#include "perpend/kernels/cuda/schedule_memory.h"

namespace perpend {

// What a launch of the decode kernel reads of a schedule.
struct DecodeLists {
  device::Lists lists;  // num_items is the room there is
  const device::SplitSum* sums = nullptr;
  const device::DecodeCounts* counts = nullptr;
  std::int64_t room_for_sums = 0;
};

// How an image lies in memory: each array at a place of its own, with room for as many as the
// capacity says.
class DecodeLayout {
 public:
  DecodeLayout(const PlanCapacity& capacity, int keys_of_step);

  std::size_t num_bytes() const { return num_bytes_; }
  // Writes to the num_bytes() from `to` on; returns how many of them, from the first, tell all.
  // Throws InvalidArgument for an image that has no room.
  std::size_t write(const DecodeImage& image, std::byte* to) const;
  DecodeLists lists_at(const std::byte* memory, int group_size) const;

 private:
  void check_room(const DecodeImage& image) const;

  PlanCapacity capacity_;
  std::size_t items_ = 0;  // where each begins; the counts lie before
  std::size_t sums_ = 0;
  std::size_t steps_ = 0;
  std::size_t sub_tiles_ = 0;
  std::size_t bitmaps_ = 0;
  std::size_t num_bytes_ = 0;
};

// What a launch writes beside the outputs: o and lse of the rows of items that were cut. head_dim
// is that of the operands.
std::size_t workspace_bytes(std::int64_t split_rows, std::int64_t head_dim);
device::SplitRows split_rows_at(std::byte* workspace, std::int64_t split_rows,
                                std::int64_t head_dim);

// A schedule, or some of its sequences, in the memory of one GPU, with the counters of its
// launches.
class DeviceDecode {
 public:
  // Uploads to the current device and waits for that.
  DeviceDecode(const DecodeImage& image, int group_size);

  const DecodeLists& lists() const { return lists_; }
  std::int64_t split_rows() const { return split_rows_; }
  unsigned* counter_for(cudaStream_t stream) const { return counters_.for_stream(stream); }
  const ScheduleMemory& memory() const { return memory_; }

 private:
  ScheduleMemory memory_;
  DecodeLists lists_;
  std::int64_t split_rows_;
  LaunchCounters counters_;
};

// As device_schedule(): of all sequences, or of those that has_few_rows() chooses.
std::shared_ptr<const DeviceDecode> device_decode(const Schedule& schedule, int head_dim,
                                                  int device_index, bool all);

}  // namespace perpend
