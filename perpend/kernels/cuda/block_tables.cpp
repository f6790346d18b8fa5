#include "perpend/kernels/cuda/block_tables.h"

#include <algorithm>

namespace perpend {
namespace {

// Places of arrays one after another, each aligned.
class Room {
 public:
  template <class T>
  std::size_t add(std::int64_t count) {
    const std::size_t at = size_;
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    size_ += static_cast<std::size_t>(round_up(bytes, std::int64_t{ArrayLayout::kAlignment}));
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

template <class T>
T* at(std::byte* memory, std::size_t offset) {
  return reinterpret_cast<T*>(memory + offset);
}

}  // namespace

CudaBlockTables::CudaBlockTables(const BlockAttentionSpec& spec, Device device)
    : spec_(spec), shape_(spec.shape()), device_(device) {
  const BlockListImage rows = make_block_list_image(spec);
  const BlockColumnImage columns =
      spec.gradients ? make_block_column_image(spec) : BlockColumnImage{};
  form_ = {.skips_parts = rows.skips_parts,
           .has_packed = rows.geometry.is_packed,
           .has_separate = !rows.geometry.is_packed};
  rows_.geometry = rows.geometry;
  rows_.warps_per_cta = planning_warps(rows.geometry);
  columns_.geometry = rows.geometry;
  columns_.columns = columns.geometry;
  upload_tables(rows, columns);
  set_places();
}

void CudaBlockTables::upload_tables(const BlockListImage& rows, const BlockColumnImage& columns) {
  ArrayLayout layout;
  const std::size_t flags = layout.add(rows.flags);
  const std::size_t cut_flags = layout.add(rows.cut_flags);
  const std::size_t bitmaps = layout.add(rows.bitmaps);
  const std::size_t column_flags = layout.add(columns.flags);
  const std::size_t column_bitmaps = layout.add(columns.bitmaps);
  const std::size_t q_indptr = layout.add(columns.q_indptr);
  memory_ = upload(layout.bytes(), ArrayLayout::kAlignment);
  rows_.flags = at<const std::uint32_t>(memory_.data(), flags);
  rows_.cut_flags = at<const std::uint32_t>(memory_.data(), cut_flags);
  columns_.flags = at<const std::uint32_t>(memory_.data(), column_flags);
  q_indptr_ = at<const std::int32_t>(memory_.data(), q_indptr);
  const std::int32_t group_size = rows.geometry.group_size;
  row_lists_ = {nullptr,
                nullptr,
                nullptr,
                at<const std::uint32_t>(memory_.data(), bitmaps),
                rows.geometry.num_items,
                group_size,
                rows.box_rows};
  key_lists_ = {nullptr,
                nullptr,
                nullptr,
                at<const std::uint32_t>(memory_.data(), column_bitmaps),
                columns.geometry.num_items,
                group_size,
                device::kGradientQueries / std::max(columns.geometry.boxes_per_step, 1)};
}

void CudaBlockTables::set_places() {
  const device::BlockGeometry& g = rows_.geometry;
  const device::ColumnGeometry& c = columns_.columns;
  Room room;
  at_.counts = room.add<device::StepCounts>(g.num_items);
  at_.buckets = room.add<std::uint8_t>(g.num_items);
  at_.items = room.add<device::Item>(g.num_items);
  at_.steps = room.add<device::Step>(std::int64_t{g.num_items} * g.steps_per_item);
  at_.sub_tiles = room.add<std::int32_t>(std::int64_t{g.num_items} * g.units_per_item);
  at_.pieces = room.add<std::uint8_t>(std::int64_t{c.num_list_rows} * c.num_tiles * c.q_pitch);
  at_.next_step = room.add<std::int32_t>(1);
  at_.next_box = room.add<std::int32_t>(1);
  at_.columns = room.add<device::ColumnList>(c.num_columns());
  at_.key_buckets = room.add<std::uint8_t>(c.num_items);
  at_.key_items = room.add<device::KeyItem>(c.num_items);
  at_.key_steps = room.add<device::KeyStep>(c.num_steps);
  at_.key_boxes = room.add<std::int32_t>(c.num_boxes);
  plan_bytes_ = room.size();
}

device::BlockListParams CudaBlockTables::row_params(std::byte* memory) const {
  device::BlockListParams params = rows_;
  params.counts = at<device::StepCounts>(memory, at_.counts);
  params.buckets = at<std::uint8_t>(memory, at_.buckets);
  params.steps = at<device::Step>(memory, at_.steps);
  params.sub_tiles = at<std::int32_t>(memory, at_.sub_tiles);
  params.items = at<device::Item>(memory, at_.items);
  return params;
}

device::BlockColumnParams CudaBlockTables::column_params(std::byte* memory) const {
  device::BlockColumnParams params = columns_;
  params.pieces = at<std::uint8_t>(memory, at_.pieces);
  params.next_step = at<std::int32_t>(memory, at_.next_step);
  params.next_box = at<std::int32_t>(memory, at_.next_box);
  params.steps = at<device::KeyStep>(memory, at_.key_steps);
  params.sub_tiles = at<std::int32_t>(memory, at_.key_boxes);
  params.of_columns = at<device::ColumnList>(memory, at_.columns);
  params.buckets = at<std::uint8_t>(memory, at_.key_buckets);
  params.items = at<device::KeyItem>(memory, at_.key_items);
  return params;
}

DeviceRows CudaBlockTables::rows(std::byte* memory) const {
  const device::BlockListParams params = row_params(memory);
  DeviceRows rows{row_lists_, form_, &counters_};
  rows.lists.items = params.items;
  rows.lists.steps = params.steps;
  rows.lists.sub_tiles = params.sub_tiles;
  return rows;
}

DeviceKeys CudaBlockTables::keys(std::byte* memory) const {
  const device::BlockColumnParams params = column_params(memory);
  DeviceKeys keys{key_lists_, q_indptr_, static_cast<std::int32_t>(spec_.batch), &counters_};
  keys.lists.items = params.items;
  keys.lists.steps = params.steps;
  keys.lists.sub_tiles = params.sub_tiles;
  return keys;
}

}  // namespace perpend
