#include "perpend/kernels/cuda/decode_memory.h"

#include <algorithm>
#include <cstring>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/decode_launch.h"

namespace perpend {
namespace {

std::size_t aligned(std::size_t offset) {
  return static_cast<std::size_t>(
      round_up(static_cast<std::int64_t>(offset), std::int64_t{ArrayLayout::kAlignment}));
}

std::int64_t room_of(std::int64_t count) { return std::max<std::int64_t>(count, 1); }

template <class T>
std::size_t put(const std::vector<T>& values, std::size_t offset, std::byte* to) {
  const std::size_t bytes = values.size() * sizeof(T);
  if (bytes != 0) std::memcpy(to + offset, values.data(), bytes);
  return bytes == 0 ? 0 : offset + bytes;
}

}  // namespace

DecodeLayout::DecodeLayout(const PlanCapacity& capacity, int keys_of_step) : capacity_(capacity) {
  std::size_t end = sizeof(device::DecodeCounts);
  const auto place = [&](std::int64_t count, std::size_t bytes) {
    const std::size_t begin = aligned(end);
    end = begin + static_cast<std::size_t>(room_of(count)) * bytes;
    return begin;
  };
  items_ = place(capacity.items, sizeof(device::Item));
  sums_ = place(capacity.sums, sizeof(device::SplitSum));
  steps_ = place(capacity.steps, sizeof(device::Step));
  sub_tiles_ = place(capacity.sub_tiles, sizeof(std::int32_t));
  bitmaps_ =
      place(capacity.bitmaps,
            static_cast<std::size_t>(device::fragment_words(keys_of_step)) * sizeof(std::uint32_t));
  num_bytes_ = aligned(end);
}

void DecodeLayout::check_room(const DecodeImage& image) const {
  const PlanCapacity needed = size_of(image);
  const auto check_one = [](std::int64_t count, std::int64_t room, std::string_view what) {
    demand(count <= room, "attention plan: the schedule has ", count, " ", what,
           ", the plan has room for ", room);
  };
  check_one(needed.items, capacity_.items, "items");
  check_one(needed.sums, capacity_.sums, "sums");
  check_one(needed.steps, capacity_.steps, "steps");
  check_one(needed.sub_tiles, capacity_.sub_tiles, "sub-tiles");
  check_one(needed.bitmaps, capacity_.bitmaps, "bitmaps");
  check_one(needed.split_rows, capacity_.split_rows, "rows to add up");
}

std::size_t DecodeLayout::write(const DecodeImage& image, std::byte* to) const {
  check_room(image);
  const device::DecodeCounts counts{static_cast<std::int32_t>(image.items.size()),
                                    static_cast<std::int32_t>(image.sums.size())};
  std::memcpy(to, &counts, sizeof(counts));
  return std::max({sizeof(counts), put(image.items, items_, to), put(image.sums, sums_, to),
                   put(image.lists.steps, steps_, to), put(image.lists.sub_tiles, sub_tiles_, to),
                   put(image.lists.bitmaps, bitmaps_, to)});
}

DecodeLists DecodeLayout::lists_at(const std::byte* memory, int group_size) const {
  return {{reinterpret_cast<const device::Item*>(memory + items_),
           reinterpret_cast<const device::Step*>(memory + steps_),
           reinterpret_cast<const std::int32_t*>(memory + sub_tiles_),
           reinterpret_cast<const std::uint32_t*>(memory + bitmaps_),
           static_cast<std::int32_t>(capacity_.items), group_size, kDecodeBoxRows},
          reinterpret_cast<const device::SplitSum*>(memory + sums_),
          reinterpret_cast<const device::DecodeCounts*>(memory),
          capacity_.sums};
}

std::size_t workspace_bytes(std::int64_t split_rows, std::int64_t head_dim) {
  return static_cast<std::size_t>(split_rows * (decode_head_dim(head_dim) + 1)) * sizeof(float);
}

device::SplitRows split_rows_at(std::byte* workspace, std::int64_t split_rows,
                                std::int64_t head_dim) {
  auto* o = reinterpret_cast<float*>(workspace);
  return {o, o + split_rows * decode_head_dim(head_dim)};
}

DeviceDecode::DeviceDecode(const DecodeImage& image, int group_size)
    : split_rows_(image.split_rows) {
  const DecodeLayout layout(size_of(image), image.lists.keys);
  const std::size_t counters = layout.num_bytes();
  std::vector<std::byte> bytes(counters + LaunchCounters::zeros().size() * sizeof(unsigned));
  layout.write(image, bytes.data());
  memory_ = ScheduleMemory(bytes);
  counters_.begin_in(memory_.data() + counters);
  lists_ = layout.lists_at(memory_.data(), group_size);
}

std::shared_ptr<const DeviceDecode> device_decode(const Schedule& schedule, int head_dim,
                                                  int device_index, bool all) {
  const auto takes = [&](const WorkItem& item) {
    return all || has_few_rows(schedule, item.sequence);
  };
  return schedule.attachments.get<DeviceDecode>(2 * device_index + (all ? 1 : 0), [&] {
    return std::make_shared<const DeviceDecode>(make_decode_image(schedule, head_dim, takes),
                                                schedule.shape.group_size());
  });
}

}  // namespace perpend
