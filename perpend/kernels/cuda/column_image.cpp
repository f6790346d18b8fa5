#include "perpend/kernels/cuda/column_image.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

using device::KeyStep;
using device::kGradientQueries;
using device::kTileRows;
using device::Step;

class ColumnImageMaker {
 public:
  explicit ColumnImageMaker(const Schedule& schedule) : schedule_(schedule) {
    image_.box_rows = kGradientQueries;
    for (const TileEntry& entry : schedule.entries) {
      if (entry.is_gathered()) image_.box_rows = std::min<int>(image_.box_rows, entry.sub_tile());
    }
  }

  ColumnImage make() {
    const std::vector<TokenBases> bases = token_bases(schedule_.shape);
    for (const TokenBases& base : bases) image_.q_indptr.push_back(base.q);
    const auto& sequences = schedule_.shape.sequences;
    image_.q_indptr.push_back(
        sequences.empty() ? 0 : bases.back().q + static_cast<std::int32_t>(sequences.back().q_len));
    image_.items.reserve(schedule_.items.size());
    for (const WorkItem& item : schedule_.items) {
      add_item(item, bases[static_cast<std::size_t>(item.sequence)]);
    }
    return std::move(image_);
  }

 private:
  // Steps of one item in the image.
  struct StepList {
    std::int32_t begin = 0;
    std::int32_t num_partial = 0;
    std::int32_t num_full = 0;
  };
  // What tells apart items that share their steps: the entries of their heads, or the first of
  // their lists where each head has one, and the parts that they have.
  using ListKey = std::tuple<std::int64_t, std::int64_t, std::int32_t, unsigned>;

  void add_item(const WorkItem& item, TokenBases bases) {
    const unsigned present = item.size > device::kPartRows ? Step::kBothParts : 1U;
    const ListRange range = schedule_.lists[static_cast<std::size_t>(item.list)];
    const std::int32_t own_lists = item.list_stride == 0 ? -1 : item.list;
    const auto [place, is_new] =
        lists_.try_emplace(ListKey{range.begin, range.end, own_lists, present});
    if (is_new) place->second = add_steps(item, present);
    const StepList& list = place->second;
    const SequenceShape& shape = schedule_.shape.sequences[static_cast<std::size_t>(item.sequence)];
    image_.items.push_back({item.begin, item.size, item.q_head / schedule_.shape.group_size(),
                            item.sequence, list.begin, list.num_partial, list.num_full, bases.q,
                            bases.kv, static_cast<std::int32_t>(shape.q_offset),
                            static_cast<std::int32_t>(shape.q_len), 0});
  }

  StepList add_steps(const WorkItem& item, unsigned present) {
    StepList list;
    list.begin = static_cast<std::int32_t>(image_.steps.size());
    std::vector<KeyStep> full;
    for (int head = 0; head < item.num_heads; ++head) {
      for (const TileEntry& entry : schedule_.list_of(item, item.q_head + head)) {
        const KeyStep step{make_step(entry, present), head, 0};
        (step.step.flags & Step::kHasBitmap ? image_.steps : full).push_back(step);
      }
    }
    list.num_full = static_cast<std::int32_t>(full.size());
    image_.steps.insert(image_.steps.end(), full.begin(), full.end());
    list.num_partial = static_cast<std::int32_t>(image_.steps.size()) - list.begin - list.num_full;
    return list;
  }

  // Queries behind the end of the sequence need no bitmap: the statistics give them no weight.
  Step make_step(const TileEntry& entry, unsigned present) {
    const unsigned live = entry.live_parts() & present;
    Step step{entry.begin, live};
    if (entry.is_gathered()) {
      step.begin = static_cast<std::int32_t>(image_.sub_tiles.size());
      const int boxes = add_boxes(entry);
      step.flags |= Step::kIsGathered | static_cast<unsigned>(boxes - 1) << Step::kBoxesShift;
    }
    if (!entry.is_full()) {
      step.flags |= Step::kHasBitmap | own_bitmap(entry.bitmap()) << Step::kBitmapShift;
    } else if (live != present) {
      step.flags |= Step::kHasBitmap | part_bitmap(live) << Step::kBitmapShift;
    }
    return step;
  }

  int add_boxes(const TileEntry& entry) {
    int boxes = 0;
    for (const std::int32_t begin : schedule_.sub_tiles_of(entry)) {
      for (int row = 0; row < entry.sub_tile(); row += image_.box_rows, ++boxes) {
        image_.sub_tiles.push_back(begin + row);
      }
    }
    return boxes;
  }

  std::uint32_t own_bitmap(std::int32_t bitmap) {
    const auto [place, is_new] = own_bitmaps_.try_emplace(bitmap);
    if (is_new) {
      std::vector<int> rows(kTileRows);
      std::iota(rows.begin(), rows.end(), 0);
      place->second = add_bitmap(schedule_.bitmaps.tile(bitmap), rows);
    }
    return place->second;
  }

  // All columns of some parts.
  std::uint32_t part_bitmap(unsigned parts) {
    const auto [place, is_new] = part_bitmaps_.try_emplace(parts);
    if (is_new) {
      const std::uint64_t all = ~std::uint64_t{0};
      std::vector<int> rows(kTileRows);
      for (int row = 0; row < kTileRows; ++row) {
        const bool is_live = (parts >> (row / device::kPartRows) & 1U) != 0;
        rows[static_cast<std::size_t>(row)] = is_live ? 0 : -1;
      }
      place->second = add_bitmap(std::span(&all, 1), rows);
    }
    return place->second;
  }

  std::uint32_t add_bitmap(std::span<const std::uint64_t> words, std::span<const int> rows) {
    constexpr std::size_t kMost = std::size_t{1} << (32 - Step::kBitmapShift);
    const std::size_t index =
        image_.bitmaps.size() / static_cast<std::size_t>(device::fragment_words(kGradientQueries));
    check(index < kMost, "attention: a plan has more than 2^20 distinct partial tiles");
    append_fragments(words, 1, rows, image_.bitmaps);
    return static_cast<std::uint32_t>(index);
  }

  const Schedule& schedule_;
  ColumnImage image_;
  std::map<ListKey, StepList> lists_;
  std::map<std::int32_t, std::uint32_t> own_bitmaps_;
  std::map<unsigned, std::uint32_t> part_bitmaps_;
};

}  // namespace

ColumnImage make_column_image(const Schedule& schedule, int head_dim) {
  check_image_form(schedule, head_dim, Sweep::kColumns);
  check_gathers(schedule);
  return ColumnImageMaker(schedule).make();
}

}  // namespace perpend
