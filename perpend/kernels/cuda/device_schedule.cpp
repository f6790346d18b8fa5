#include "perpend/kernels/cuda/device_schedule.h"

#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/decode_image.h"

namespace perpend {

DeviceSchedule::DeviceSchedule(const ScheduleImage& image, int group_size)
    : lists_{}, form_{image.skips_parts, image.has_packed, image.has_separate} {
  ArrayLayout layout;
  const std::size_t items = layout.add(image.items);
  const std::size_t steps = layout.add(image.steps);
  const std::size_t sub_tiles = layout.add(image.sub_tiles);
  const std::size_t bitmaps = layout.add(image.bitmaps);
  const std::size_t counters = layout.add(LaunchCounters::zeros());
  memory_ = ScheduleMemory(layout.bytes());
  counters_.begin_in(memory_.data() + counters);
  lists_ = {reinterpret_cast<const device::Item*>(memory_.data() + items),
            reinterpret_cast<const device::Step*>(memory_.data() + steps),
            reinterpret_cast<const std::int32_t*>(memory_.data() + sub_tiles),
            reinterpret_cast<const std::uint32_t*>(memory_.data() + bitmaps),
            static_cast<std::int32_t>(image.items.size()),
            group_size,
            image.box_rows};
}

DeviceColumns::DeviceColumns(const ColumnImage& image, const std::optional<ColumnTurns>& turns,
                             int group_size)
    : lists_{},
      q_indptr_(nullptr),
      num_sequences_(static_cast<std::int32_t>(image.q_indptr.size()) - 1) {
  ArrayLayout layout;
  const std::size_t items = layout.add(image.items);
  const std::size_t steps = layout.add(image.steps);
  const std::size_t sub_tiles = layout.add(image.sub_tiles);
  const std::size_t bitmaps = layout.add(image.bitmaps);
  const std::size_t q_indptr = layout.add(image.q_indptr);
  const std::size_t items_in_turns = turns ? layout.add(turns->items) : 0;
  const std::size_t steps_in_turns = turns ? layout.add(turns->steps) : 0;
  const std::size_t of_steps = turns ? layout.add(turns->turns) : 0;
  const std::size_t counters = layout.add(LaunchCounters::zeros());
  memory_ = ScheduleMemory(layout.bytes());
  counters_.begin_in(memory_.data() + counters);
  lists_ = {reinterpret_cast<const device::KeyItem*>(memory_.data() + items),
            reinterpret_cast<const device::KeyStep*>(memory_.data() + steps),
            reinterpret_cast<const std::int32_t*>(memory_.data() + sub_tiles),
            reinterpret_cast<const std::uint32_t*>(memory_.data() + bitmaps),
            static_cast<std::int32_t>(image.items.size()),
            group_size,
            image.box_rows};
  q_indptr_ = reinterpret_cast<const std::int32_t*>(memory_.data() + q_indptr);
  lists_in_turns_ = lists_;
  if (!turns) return;
  lists_in_turns_.items = reinterpret_cast<const device::KeyItem*>(memory_.data() + items_in_turns);
  lists_in_turns_.steps = reinterpret_cast<const device::KeyStep*>(memory_.data() + steps_in_turns);
  turns_ = reinterpret_cast<const std::int32_t*>(memory_.data() + of_steps);
}

std::shared_ptr<const DeviceSchedule> device_schedule(const Schedule& schedule, int head_dim,
                                                      int device_index, DeviceChoice choice) {
  const auto takes = [&](const WorkItem& item) {
    return !choice.only_many_rows || !has_few_rows(schedule, item.sequence);
  };
  const PartSkips part_skips = choice.may_skip_parts ? PartSkips::kIfMany : PartSkips::kNever;
  const int index =
      4 * device_index + (choice.only_many_rows ? 2 : 0) + (choice.may_skip_parts ? 1 : 0);
  return schedule.attachments.get<DeviceSchedule>(index, [&] {
    return std::make_shared<const DeviceSchedule>(
        make_schedule_image(schedule, head_dim, {takes, 0, part_skips}),
        schedule.shape.group_size());
  });
}

namespace {

TurnTakers turn_takers(int head_dim, int device_index) {
  // q, d_o and, in f32, the sums for dq; beside keys and what is written half of the cache is
  // theirs.
  const std::int64_t bytes_of_row = std::int64_t{8} * head_dim;
  return {num_multiprocessors(device_index), l2_bytes(device_index) / 2 / bytes_of_row};
}

}  // namespace

std::shared_ptr<const DeviceColumns> device_columns(const Schedule& schedule, int head_dim,
                                                    int device_index, bool in_turns) {
  const int index = 2 * device_index + (in_turns ? 1 : 0);
  return schedule.attachments.get<DeviceColumns>(index, [&] {
    const ColumnImage image = make_column_image(schedule, head_dim);
    const int group_size = schedule.shape.group_size();
    std::optional<ColumnTurns> turns;
    // Two passes take about 1.3 times as long as one that never waits.
    constexpr double kMostSlowdown = 1.2;
    if (in_turns) {
      turns =
          make_column_turns(image, group_size, turn_takers(head_dim, device_index), kMostSlowdown);
    }
    return std::make_shared<const DeviceColumns>(image, turns, group_size);
  });
}

}  // namespace perpend
