#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/schedule/cell_patterns.h"
#include "perpend/schedule/list_templates.h"
#include "perpend/schedule/problems.h"
#include "perpend/schedule/step_packer.h"

namespace perpend {

// Makes the lists of a problem, outer tile by outer tile: asks the mask how far each of its answers
// reaches along the inner axis, lays cells over what lives, looks at the bits of the undecided
// ones, and packs them into steps. A list that is like one before it is written down from that.
class ListBuilder {
 public:
  // `schedule` has its sweep and tiling already. Appends the cost of each list to `costs`. Without
  // `with_bitmaps` lists are made for that only.
  ListBuilder(Schedule& schedule, std::vector<float>& costs, const TilePlan& plan,
              const CompileOptions& options, bool with_bitmaps = true);
  ListBuilder(const ListBuilder&) = delete;
  ListBuilder& operator=(const ListBuilder&) = delete;

  // Appends a list for each of `tiles`, outer rows counted inside the sequence, ascending.
  void add_lists(const BoundMask& mask, const Problem& problem, std::span<const Range> tiles);

  // Distinct partial steps so far.
  std::int64_t num_distinct() const { return packer_.num_distinct(); }
  // Forgets what was met, for masks and sequences that are others' affair; keeps the memory.
  void restart();

 private:
  // Inner positions that the mask has one answer for.
  struct Region {
    Range inner;             // counted inside the sequence
    std::uint8_t parts = 0;  // parts with all pairs live, the others having none; 0: undecided
    bool is_shared = false;  // its cells are laid already
  };

  // Asks one outer range along the inner axis, in positions counted inside the sequence.
  class Walk {
   public:
    Walk(const BoundMask& mask, Sweep sweep, Range outer, std::int64_t inner_offset)
        : walk_(mask, sweep, outer), offset_(inner_offset) {}
    BoundMask::Stretch stretch(Range inner) {
      const auto part = walk_.stretch({offset_ + inner.begin, offset_ + inner.end});
      return {part.answer, part.end - offset_};
    }

   private:
    MaskWalk walk_;
    std::int64_t offset_;
  };

  Range outer_positions(Range rows) const;
  Range inner_positions(Range inner) const;
  Walk walk(Range outer) const { return {*mask_, sweep_, outer, axes_.inner_offset}; }
  void narrow(Range rows, std::span<const Region> from, std::vector<Region>& to) const;
  void share_full_cells(Range rows);
  bool may_share(std::size_t region) const;
  void add_group(std::span<const Range> tiles, std::span<const Region> regions, std::size_t level);
  void add_list(Range rows, std::span<const Region> regions, std::size_t level);
  bool finish_like(ListTemplates& templates, std::span<const Range> tiles,
                   std::span<const Region> regions, std::size_t level);
  void keep_list(std::size_t level);
  void walk_tile(std::span<const Region> regions);
  void walk_undecided(Walk& tile, Range inner);
  void walk_parts(Range inner);
  void add_region(Region region);
  std::int64_t first_cell(Range run) const;
  void lay_tile();
  void lay_cells();
  void look_at(Range cells);
  void add_cells(std::int64_t begin, std::int64_t end, std::int32_t pattern);

  const CompileOptions& options_;
  bool reuses_lists_;  // not in the few lists of a sample
  Sweep sweep_;
  std::int64_t outer_tile_;
  std::int64_t outer_part_;
  std::int64_t inner_tile_;
  std::int64_t cell_;
  bool any_start_;
  CellPatterns patterns_;
  StepPacker packer_;
  // The lists of tiles that ask together, of either half of them, and so on down to two tiles.
  static constexpr std::size_t kLevels = 4;
  std::vector<ListTemplates> groups_;
  ListTemplates by_tile_;  // and of one

  const BoundMask* mask_ = nullptr;
  std::int32_t classes_ = 0;
  Axes axes_;
  std::vector<Region> wide_;     // live or undecided regions of many neighbouring tiles together
  std::vector<Region> regions_;  // of few
  std::vector<Region> rest_;     // the same while their full cells are being shared
  std::array<std::vector<Region>, kLevels> of_group_;  // of parts of the few, by level
  std::vector<Range> shared_;    // whole cells that are full for all of these tiles
  Range outer_;                  // of the present tile, in positions
  std::uint8_t present_ = 0;     // its parts
  std::vector<Region> of_tile_;  // the present tile's
  std::vector<Region> run_;      // live regions that share cells or have no gap between them
  std::int64_t covered_ = 0;     // where the cells laid so far end
};

}  // namespace perpend
