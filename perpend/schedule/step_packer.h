#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/schedule/cell_patterns.h"
#include "perpend/schedule/list_templates.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// Makes the steps of one item after another from the live cells of its tile: full ones together,
// those that only one part needs together, and what is left over in as few steps as it takes.
class StepPacker {
 public:
  // Appends the cost of each list to `costs`. Without `with_bitmaps` steps and bitmaps are only
  // counted: all bitmaps are the first.
  StepPacker(Schedule& schedule, std::vector<float>& costs, const TilePlan& plan,
             CellPatterns& patterns, bool with_bitmaps);

  // Whole cells that are full for the items from here on, ascending: their steps are made once.
  // `rows` are those of a whole item.
  void share(std::span<const Range> runs, std::int64_t rows, std::int64_t inner_len);
  // The item has `rows` outer rows and `inner_len` inner positions.
  void start(std::int64_t rows, std::int64_t inner_len);
  // Cells, ascending from call to call: whole ones in `cells`, all of whose pairs with the rows of
  // `parts` are live and no others; or one at `begin`.
  void add_full(Range cells, std::uint8_t parts);
  void add_partial(std::int64_t begin, std::int32_t pattern);
  // Appends the list to the schedule.
  void finish();
  // The same of an item of `rows` rows, whose own steps, those that are not shared, are those of
  // the present template's list `index`.
  void finish_like(ListTemplates& templates, std::size_t index, std::int64_t rows);
  // Keeps the own steps of the item that was finished last.
  void keep(ListTemplates& templates) const {
    templates.keep(partial_, full_, counts_, schedule_.sub_tiles);
  }
  // Cells of what is shared that are in no step yet, ascending: they are part of each item.
  struct Cell {
    std::int32_t begin = 0;
    std::int32_t pattern = 0;
  };
  std::span<const Cell> shared_loose() const { return shared_loose_; }
  // Distinct partial steps so far.
  std::int64_t num_distinct() const { return num_distinct_; }
  // To be called when the patterns have been cleared.
  void forget_patterns();

 private:
  // Cells of which the same parts have live pairs.
  struct Group {
    std::vector<Range> full_runs;
    std::vector<Cell> partial;
    std::vector<Cell> loose;     // full cells outside contiguous steps
    std::vector<Cell> leftover;  // cells outside full steps
  };
  // How many leftover cells of either part alone go where both are computed anyway.
  struct Mixture {
    std::size_t first = 0;
    std::size_t second = 0;
    float cost = 0.0F;
  };

  std::uint8_t present_parts() const { return rows_ > outer_part_ ? 3 : 1; }
  void clear();
  void make_full_steps(std::uint8_t parts);
  void add_shared_loose(std::uint8_t parts);
  void merge_full_steps();
  void add_loose(Group& group, Range cells, std::uint8_t parts);
  std::int64_t add_contiguous(Range cells, std::uint8_t parts);
  // Steps that hold so many cells; mostly one or none, which takes no division.
  std::size_t steps_for(std::size_t cells) const {
    return cells <= cells_per_step_ ? (cells != 0 ? 1 : 0)
                                    : (cells + cells_per_step_ - 1) / cells_per_step_;
  }
  Mixture mix(std::size_t num_steps) const;
  Mixture best_mixture() const;
  void move_to_both(std::uint8_t parts, std::size_t count);
  void make_leftover_steps(const Group& group);
  void add_step(std::span<const Cell> cells);
  std::int32_t bitmap_of(std::span<const Cell> cells);
  std::int32_t make_bitmap(std::span<const Cell> cells);
  void append_list();
  void sort_by_position(std::vector<TileEntry>& entries) const;
  // Appends two sorted ranges of entries to `merged` in the order of positions.
  void merge_by_position(std::span<const TileEntry> a, std::span<const TileEntry> b,
                         std::vector<TileEntry>& merged) const;
  std::int32_t position(const TileEntry& entry) const;
  bool may_be_contiguous(std::int64_t begin) const {
    return any_start_ || begin % inner_tile_ == 0;
  }

  Schedule& schedule_;
  std::vector<float>& costs_;
  CellPatterns& patterns_;
  bool with_bitmaps_;
  bool any_start_;
  unsigned all_parts_;
  std::int64_t outer_part_;
  std::int64_t inner_tile_;
  std::int64_t cell_;
  std::size_t cells_per_step_;
  std::int64_t rows_ = 0;
  std::int64_t inner_len_ = 0;
  std::array<Group, 4> groups_;  // by parts; 0 stays empty
  std::vector<TileEntry> contiguous_;
  std::vector<TileEntry> gathered_;
  bool in_order_ = true;            // each of the two by position
  std::vector<TileEntry> partial_;  // the item's own steps
  std::vector<TileEntry> full_;
  StepCounts counts_;
  std::vector<Cell> merged_;
  std::vector<TileEntry> shared_full_;
  StepCounts shared_counts_;
  std::vector<Cell> shared_loose_;
  WordDictionary steps_;  // patterns of the cells of partial steps
  std::vector<std::int32_t> bitmap_of_step_;
  std::int64_t num_distinct_ = 0;
  std::vector<std::uint64_t> key_;
  std::vector<std::uint64_t> bits_;
};

}  // namespace perpend
