#pragma once

#include <memory>
#include <optional>

#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/column_turns.h"
#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/device_memory.h"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/kernels/cuda/schedule_memory.h"

namespace perpend {

// What all items of a row schedule are; see ScheduleImage.
struct RowForm {
  bool skips_parts = false;
  bool has_packed = false;
  bool has_separate = false;
};

// Items and steps in the memory of one GPU, and the counters of the launches that take them; kept
// by others.
struct DeviceRows {
  device::Lists lists{};
  RowForm form = {};
  const LaunchCounters* counters = nullptr;
};
struct DeviceKeys {
  device::KeyLists lists{};
  // [num_sequences + 1]: where the queries of each begin, batches as one after another.
  const std::int32_t* q_indptr = nullptr;
  std::int32_t num_sequences = 0;
  const LaunchCounters* counters = nullptr;
  // The same in the order of ColumnTurns, and its turns; null without.
  device::KeyLists lists_in_turns{};
  const std::int32_t* turns = nullptr;
};

// A row schedule in the memory of one GPU, with the counters of its launches.
class DeviceSchedule {
 public:
  // Uploads to the current device and waits for that.
  DeviceSchedule(const ScheduleImage& image, int group_size);

  DeviceRows rows() const { return {lists_, form_, &counters_}; }
  const ScheduleMemory& memory() const { return memory_; }

 private:
  ScheduleMemory memory_;
  device::Lists lists_;
  RowForm form_;
  LaunchCounters counters_;
};

// The same of a column schedule.
class DeviceColumns {
 public:
  DeviceColumns(const ColumnImage& image, const std::optional<ColumnTurns>& turns, int group_size);

  DeviceKeys keys() const {
    return {lists_, q_indptr_, num_sequences_, &counters_, lists_in_turns_, turns_};
  }
  const ScheduleMemory& memory() const { return memory_; }

 private:
  ScheduleMemory memory_;
  device::KeyLists lists_;
  const std::int32_t* q_indptr_;
  std::int32_t num_sequences_;
  device::KeyLists lists_in_turns_;
  const std::int32_t* turns_ = nullptr;
  LaunchCounters counters_;
};

// What is copied of a row schedule, and how.
struct DeviceChoice {
  bool only_many_rows = false;  // without the sequences that has_few_rows() chooses
  bool may_skip_parts = true;   // see PartSkips
};

// The copy of `schedule` on the current device, whose ordinal is `device_index`: made at the first
// call and kept with the schedule. Launches read it in the scope of a ReadByLaunches. Throws as
// make_schedule_image() and make_column_image().
std::shared_ptr<const DeviceSchedule> device_schedule(const Schedule& schedule, int head_dim,
                                                      int device_index, DeviceChoice choice = {});
// `in_turns`: with turns, where make_column_turns() finds them.
std::shared_ptr<const DeviceColumns> device_columns(const Schedule& schedule, int head_dim,
                                                    int device_index, bool in_turns = false);

}  // namespace perpend
