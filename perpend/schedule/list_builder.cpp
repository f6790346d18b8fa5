#include "perpend/schedule/list_builder.h"

#include <algorithm>

namespace perpend {
namespace {

// Tiles that ask the mask together before they ask alone, first so many and then so many of these:
// what it says of all of them is asked once.
constexpr std::size_t kTilesAtMost = 64;
constexpr std::size_t kTilesTogether = 16;

// Lists of more pieces are not worth a name.
constexpr std::size_t kMostAnchors = 32;

// Ranges of so many steps are asked how far they go on as they begin.
constexpr std::int64_t kLongRange = 4;

// How many names are tried before one comes again.
constexpr std::int64_t kFewGroups = 32;
constexpr std::int64_t kFewHalves = 16;
constexpr std::int64_t kGroupsAsWhole = 8;
constexpr std::int64_t kFewTiles = 128;

}  // namespace

ListBuilder::ListBuilder(Schedule& schedule, std::vector<float>& costs, const TilePlan& plan,
                         const CompileOptions& options, bool with_bitmaps)
    : options_(options),
      reuses_lists_(options.reuse_lists && with_bitmaps),
      sweep_(schedule.sweep),
      outer_tile_(plan.outer_tile),
      outer_part_(plan.outer_part),
      inner_tile_(plan.inner_tile),
      cell_(plan.sub_tile),
      any_start_(schedule.tiling.any_start),
      patterns_(plan, schedule.sweep, options.reuse_classes),
      packer_(schedule, costs, plan, patterns_, with_bitmaps),
      groups_(kLevels, {{any_start_ ? cell_ : inner_tile_, cell_}, cell_ - 1, kFewHalves}),
      by_tile_({any_start_ ? cell_ : inner_tile_, cell_}, cell_ - 1, kFewTiles) {
  groups_.front() = {{any_start_ ? cell_ : inner_tile_, cell_}, cell_ - 1, kFewGroups};
}

void ListBuilder::add_lists(const BoundMask& mask, const Problem& problem,
                            std::span<const Range> tiles) {
  mask_ = &mask;
  classes_ = problem.classes;
  axes_ = problem.axes;
  const auto rows_of = [](std::span<const Range> some) {
    return Range{some.front().begin, some.back().end};
  };
  const auto next = [](std::span<const Range>& left, std::size_t count) {
    const auto some = left.first(std::min(count, left.size()));
    left = left.subspan(some.size());
    return some;
  };
  const Region everything{{0, axes_.inner_len}};
  while (!tiles.empty()) {
    auto many = next(tiles, options_.reuse_regions ? kTilesAtMost : 1);
    wide_.clear();
    if (!everything.inner.empty()) wide_.push_back(everything);
    if (many.size() > kTilesTogether) narrow(rows_of(many), {&everything, 1}, wide_);
    while (!many.empty()) {
      const auto few = next(many, kTilesTogether);
      regions_.assign(wide_.begin(), wide_.end());
      if (few.size() > 1) narrow(rows_of(few), wide_, regions_);
      share_full_cells(rows_of(few));
      add_group(few, regions_, 0);
    }
  }
}

Range ListBuilder::outer_positions(Range rows) const {
  return {axes_.outer_offset + rows.begin, axes_.outer_offset + rows.end};
}

Range ListBuilder::inner_positions(Range inner) const {
  return {axes_.inner_offset + inner.begin, axes_.inner_offset + inner.end};
}

// What is left undecided of the regions of more rows, asked for `rows`.
void ListBuilder::narrow(Range rows, std::span<const Region> from, std::vector<Region>& to) const {
  to.clear();
  const auto add = [&](Range inner, bool all) {
    const std::uint8_t parts = all ? 1 : 0;
    if (!to.empty() && !to.back().is_shared && to.back().inner.end == inner.begin &&
        to.back().parts == parts) {
      to.back().inner.end = inner.end;
    } else {
      to.push_back({inner, parts});
    }
  };
  Walk together = walk(outer_positions(rows));
  for (const Region& region : from) {
    if (region.is_shared) {
      to.push_back(region);
      continue;
    }
    if (region.parts != 0) add(region.inner, true);
    for (std::int64_t begin = region.inner.begin; region.parts == 0 && begin < region.inner.end;) {
      const auto part = together.stretch({begin, region.inner.end});
      if (part.answer != Answer::kNone) add({begin, part.end}, part.answer == Answer::kAll);
      begin = part.end;
    }
  }
}

// Full cells of all tiles are packed once: the whole cells of regions that no cell of a region
// before them can reach into. What is left of these regions stays with the others.
void ListBuilder::share_full_cells(Range rows) {
  shared_.clear();
  rest_.clear();
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    Region region = regions_[i];
    if (may_share(i)) {
      const Range cells{region.inner.begin,
                        region.inner.begin + region.inner.size() / cell_ * cell_};
      shared_.push_back(cells);
      region.inner.begin = cells.end;
      // One note of where they end is enough for several in a row.
      if (!rest_.empty() && rest_.back().is_shared) {
        rest_.back().inner.end = cells.end;
      } else {
        rest_.push_back({cells, 0, true});
      }
    }
    if (!region.inner.empty()) rest_.push_back(region);
  }
  regions_.swap(rest_);
  const std::int64_t whole = std::min<std::int64_t>(rows.size(), outer_tile_);
  packer_.share(shared_, whole, axes_.inner_len);
}

bool ListBuilder::may_share(std::size_t region) const {
  const Range inner = regions_[region].inner;
  const bool reached = region > 0 && regions_[region - 1].inner.end + cell_ > inner.begin;
  return regions_[region].parts != 0 && inner.size() >= cell_ && !reached &&
         (any_start_ || inner.begin % cell_ == 0);
}

void ListBuilder::restart() {
  patterns_.clear();
  packer_.forget_patterns();
  for (ListTemplates& groups : groups_) groups.clear();
  by_tile_.clear();
}

// Lists of which no group like their own is found are looked for half by half, since what makes a
// group different is often one tile; not in the first few groups, which may be all.
void ListBuilder::add_group(std::span<const Range> tiles, std::span<const Region> regions,
                            std::size_t level) {
  if (tiles.size() == 1) return add_list(tiles.front(), regions, level);
  if (level > 0 && groups_[level].is_worthwhile()) {
    narrow({tiles.front().begin, tiles.back().end}, regions, of_group_[level]);
    regions = of_group_[level];
  }
  if (finish_like(groups_[level], tiles, regions, level)) return;
  if (groups_.front().num_new() <= kGroupsAsWhole) {
    for (const Range tile : tiles) add_list(tile, regions, level + 1);
    return;
  }
  const std::size_t half = tiles.size() / 2;
  add_group(tiles.first(half), regions, level + 1);
  add_group(tiles.subspan(half), regions, level + 1);
}

void ListBuilder::add_list(Range rows, std::span<const Region> regions, std::size_t level) {
  outer_ = outer_positions(rows);
  present_ = rows.size() > outer_part_ ? 3 : 1;
  packer_.start(rows.size(), axes_.inner_len);
  walk_tile(regions);
  if (!finish_like(by_tile_, {&rows, 1}, of_tile_, level)) {
    lay_tile();
    packer_.finish();
    packer_.keep(by_tile_);
    keep_list(level);
  }
  if (patterns_.is_large()) {
    patterns_.clear();
    packer_.forget_patterns();
  }
}

// Finishes the lists of neighbouring tiles as those with such regions before them, if there were
// any. Lists of one name have equal bits in regions of equal sizes, and what lies so near to
// another region or to the end of the sequence that a cell may reach both lies there equally.
bool ListBuilder::finish_like(ListTemplates& templates, std::span<const Range> tiles,
                              std::span<const Region> regions, std::size_t level) {
  auto loose = packer_.shared_loose();
  if (!reuses_lists_ || !templates.is_worthwhile() ||
      regions.size() + loose.size() > kMostAnchors) {
    templates.skip();
    return false;
  }
  ListName& name = templates.name();
  const Range outer = outer_positions({tiles.front().begin, tiles.back().end});
  name.start(classes_, tiles, any_start_ ? outer.begin - axes_.inner_offset : 0);
  for (const Region& region : regions) {
    const std::int64_t begin = region.is_shared ? region.inner.end : region.inner.begin;
    for (; !loose.empty() && loose.front().begin < begin; loose = loose.subspan(1)) {
      name.add({loose.front().begin, loose.front().begin + cell_}, ListName::Kind::kLooseCell);
    }
    if (region.is_shared) {
      name.add_end(begin);
    } else if (region.parts != 0) {
      name.add(region.inner, ListName::Kind::kFull, region.parts);
    } else {
      name.add(region.inner, ListName::Kind::kUndecided);
      mask_->append_class(sweep_, outer, inner_positions(region.inner), name.words());
    }
  }
  name.add_end(axes_.inner_len);
  if (!templates.find(tiles.size())) return false;
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    packer_.finish_like(templates, i, tiles[i].size());
    keep_list(level);
  }
  return true;
}

// For the groups that the list is part of, those of lower levels.
void ListBuilder::keep_list(std::size_t level) {
  for (ListTemplates& groups : std::span(groups_).first(level)) packer_.keep(groups);
}

void ListBuilder::walk_tile(std::span<const Region> regions) {
  of_tile_.clear();
  Walk tile = walk(outer_);
  for (const Region& region : regions) {
    if (region.is_shared) {
      of_tile_.push_back(region);
    } else if (region.parts != 0) {
      add_region({region.inner, present_});
    } else {
      walk_undecided(tile, region.inner);
    }
  }
}

void ListBuilder::walk_undecided(Walk& tile, Range inner) {
  for (std::int64_t begin = inner.begin; begin < inner.end;) {
    const auto part = tile.stretch({begin, inner.end});
    const Range region{begin, part.end};
    begin = part.end;
    if (part.answer == Answer::kNone) continue;
    if (part.answer == Answer::kAll) {
      add_region({region, present_});
    } else if (present_ == 3 && region.size() > inner_tile_) {
      walk_parts(region);
    } else {
      add_region({region, 0});
    }
  }
}

// A long undecided region may be decided for each of the parts.
void ListBuilder::walk_parts(Range inner) {
  std::array<Walk, 2> walks = {walk({outer_.begin, outer_.begin + outer_part_}),
                               walk({outer_.begin + outer_part_, outer_.end})};
  std::array<BoundMask::Stretch, 2> parts{};
  parts[0].end = parts[1].end = inner.begin;
  for (std::int64_t begin = inner.begin; begin < inner.end;) {
    Region region{{begin, inner.end}, 0};
    bool undecided = false;
    for (std::size_t p = 0; p < 2; ++p) {
      if (parts[p].end <= begin) parts[p] = walks[p].stretch({begin, inner.end});
      region.inner.end = std::min(region.inner.end, parts[p].end);
      undecided |= parts[p].answer == Answer::kSome;
      if (parts[p].answer == Answer::kAll) region.parts |= static_cast<std::uint8_t>(1U << p);
    }
    begin = region.inner.end;
    if (undecided) {
      add_region({region.inner, 0});
    } else if (region.parts != 0) {
      add_region(region);
    }
  }
}

void ListBuilder::add_region(Region region) {
  if (!of_tile_.empty() && !of_tile_.back().is_shared && of_tile_.back().parts == region.parts &&
      of_tile_.back().inner.end == region.inner.begin) {
    of_tile_.back().inner.end = region.inner.end;
  } else {
    of_tile_.push_back(region);
  }
}

// Regions in one run share its cells; a run ends where the next region begins behind its last cell.
void ListBuilder::lay_tile() {
  covered_ = 0;
  run_.clear();
  for (const Region& region : of_tile_) {
    if (region.is_shared) {
      lay_cells();
      covered_ = region.inner.end;
      continue;
    }
    if (!run_.empty() && region.inner.begin > run_.back().inner.end) {
      const Range run{run_.front().inner.begin, run_.back().inner.end};
      const std::int64_t first = first_cell(run);
      if (region.inner.begin >= first + round_up(run.end - first, cell_)) lay_cells();
    }
    run_.push_back(region);
  }
  lay_cells();
}

// Where the first cell of a run begins: at a multiple of its size; where cells may begin anywhere,
// counted from the tile's first position, which makes neighbouring tiles alike, and if that costs
// no cell.
std::int64_t ListBuilder::first_cell(Range run) const {
  const std::int64_t phase = any_start_ ? outer_.begin - axes_.inner_offset : 0;
  const std::int64_t aligned = phase + floor_div(run.begin - phase, cell_) * cell_;
  if (!any_start_) return aligned;
  const bool is_free =
      aligned >= covered_ && ceil_div(run.end - aligned, cell_) == ceil_div(run.size(), cell_);
  return is_free ? aligned : run.begin;
}

// Lays cells over the run: those that lie in one decided region are full, the others are looked at.
void ListBuilder::lay_cells() {
  if (run_.empty()) return;
  const Range run{run_.front().inner.begin, run_.back().inner.end};
  const std::int64_t origin = first_cell(run);
  const auto up = [&](std::int64_t x) { return origin + round_up(x - origin, cell_); };
  const auto down = [&](std::int64_t x) { return origin + floor_div(x - origin, cell_) * cell_; };
  std::int64_t looked_at = origin;
  for (const Region& region : run_) {
    if (region.parts == 0) continue;
    const Range full{up(region.inner.begin), region.inner.end == axes_.inner_len
                                                 ? up(region.inner.end)
                                                 : down(region.inner.end)};
    if (full.empty()) continue;
    look_at({looked_at, full.begin});
    packer_.add_full(full, region.parts);
    looked_at = full.end;
  }
  covered_ = up(run.end);
  look_at({looked_at, covered_});
  run_.clear();
}

// Where a long range goes on as it begins, its steps are like the first of them.
void ListBuilder::look_at(Range cells) {
  std::int64_t asked = cells.begin;
  for (std::int64_t begin = cells.begin; begin < cells.end;) {
    const Range inner{begin, std::min({begin + inner_tile_, cells.end, axes_.inner_len})};
    std::int64_t count = 1;
    if (begin >= asked && cells.end - begin >= kLongRange * inner_tile_) {
      const std::int64_t end =
          mask_->steady_end(sweep_, outer_, inner_positions({begin, axes_.inner_len})) -
          axes_.inner_offset;
      count = std::max<std::int64_t>(1, (std::min(end, cells.end) - begin) / inner_tile_);
      asked = begin + std::max(count, kLongRange) * inner_tile_;
    }
    const std::int32_t pattern = patterns_.find(*mask_, classes_, outer_, inner_positions(inner));
    for (; count > 0; --count, begin += inner_tile_)
      add_cells(begin, begin + inner.size(), pattern);
  }
}

// Cells that have the patterns from `pattern` on.
void ListBuilder::add_cells(std::int64_t begin, std::int64_t end, std::int32_t pattern) {
  for (std::int64_t cell = begin; cell < end; cell += cell_, ++pattern) {
    const CellPattern& of = patterns_[pattern];
    if (of.is_full() && !of.is_dead()) {
      packer_.add_full({cell, cell + cell_}, of.live_parts);
    } else if (!of.is_dead()) {
      packer_.add_partial(cell, pattern);
    }
  }
}

}  // namespace perpend
