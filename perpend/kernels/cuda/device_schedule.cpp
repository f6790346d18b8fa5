#include "perpend/kernels/cuda/device_schedule.h"

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

DeviceColumns::DeviceColumns(const ColumnImage& image, int group_size)
    : lists_{},
      q_indptr_(nullptr),
      num_sequences_(static_cast<std::int32_t>(image.q_indptr.size()) - 1) {
  ArrayLayout layout;
  const std::size_t items = layout.add(image.items);
  const std::size_t steps = layout.add(image.steps);
  const std::size_t sub_tiles = layout.add(image.sub_tiles);
  const std::size_t bitmaps = layout.add(image.bitmaps);
  const std::size_t q_indptr = layout.add(image.q_indptr);
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

std::shared_ptr<const DeviceColumns> device_columns(const Schedule& schedule, int head_dim,
                                                    int device_index) {
  return schedule.attachments.get<DeviceColumns>(device_index, [&] {
    return std::make_shared<const DeviceColumns>(make_column_image(schedule, head_dim),
                                                 schedule.shape.group_size());
  });
}

}  // namespace perpend
