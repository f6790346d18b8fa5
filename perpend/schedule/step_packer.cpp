#include "perpend/schedule/step_packer.h"

#include <algorithm>
#include <iterator>

#include "perpend/core/demand.h"

namespace perpend {
namespace {

constexpr std::uint8_t kFirst = 1;
constexpr std::uint8_t kSecond = 2;
constexpr std::uint8_t kBoth = 3;

}  // namespace

StepPacker::StepPacker(Schedule& schedule, std::vector<float>& costs, const TilePlan& plan,
                       CellPatterns& patterns, bool with_bitmaps)
    : schedule_(schedule),
      costs_(costs),
      patterns_(patterns),
      with_bitmaps_(with_bitmaps),
      any_start_(schedule.tiling.any_start),
      all_parts_(plan.all_parts()),
      outer_part_(plan.outer_part),
      inner_tile_(plan.inner_tile),
      cell_(plan.sub_tile),
      cells_per_step_(static_cast<std::size_t>(plan.inner_tile / plan.sub_tile)) {}

void StepPacker::share(std::span<const Range> runs, std::int64_t rows, std::int64_t inner_len) {
  shared_full_.clear();
  shared_loose_.clear();
  start(rows, inner_len);
  Group& group = groups_[present_parts()];
  group.full_runs.assign(runs.begin(), runs.end());
  make_full_steps(present_parts());
  merge_full_steps();
  shared_full_.swap(full_);
  shared_counts_ = {};
  for (const TileEntry& step : shared_full_) shared_counts_.add(step, all_parts_);
  shared_loose_.swap(group.leftover);
}

void StepPacker::start(std::int64_t rows, std::int64_t inner_len) {
  rows_ = rows;
  inner_len_ = inner_len;
  clear();
}

void StepPacker::clear() {
  for (Group& group : groups_) {
    group.full_runs.clear();
    group.partial.clear();
    group.loose.clear();
    group.leftover.clear();
  }
  contiguous_.clear();
  gathered_.clear();
  partial_.clear();
  full_.clear();
  in_order_ = true;
}

void StepPacker::add_full(Range cells, std::uint8_t parts) {
  std::vector<Range>& runs = groups_[parts].full_runs;
  if (!runs.empty() && runs.back().end == cells.begin) {
    runs.back().end = cells.end;
  } else {
    runs.push_back(cells);
  }
}

void StepPacker::add_partial(std::int64_t begin, std::int32_t pattern) {
  groups_[patterns_[pattern].live_parts].partial.push_back(
      {static_cast<std::int32_t>(begin), pattern});
}

void StepPacker::finish() {
  for (const std::uint8_t parts : {kBoth, kFirst, kSecond}) make_full_steps(parts);
  const Mixture mixture = best_mixture();
  move_to_both(kFirst, mixture.first);
  move_to_both(kSecond, mixture.second);
  for (const std::uint8_t parts : {kBoth, kFirst, kSecond}) make_leftover_steps(groups_[parts]);

  merge_full_steps();
  sort_by_position(partial_);
  counts_ = {};
  for (const TileEntry& step : partial_) counts_.add(step, all_parts_);
  for (const TileEntry& step : full_) counts_.add(step, all_parts_);
  append_list();
}

void StepPacker::finish_like(ListTemplates& templates, std::size_t index, std::int64_t rows) {
  rows_ = rows;
  counts_ = templates.write(index, partial_, full_, schedule_.sub_tiles);
  append_list();
}

void StepPacker::append_list() {
  std::vector<TileEntry>& entries = schedule_.entries;
  const std::size_t first = entries.size();
  entries.insert(entries.end(), partial_.begin(), partial_.end());
  merge_by_position(shared_full_, full_, entries);
  StepCounts counts = counts_ + shared_counts_;
  if (present_parts() != all_parts_) {
    // Shared steps are those of whole items.
    for (TileEntry& step : std::span(entries).subspan(first)) step.set_live_parts(present_parts());
    counts.skipped = counts.steps;
  }
  schedule_.lists.push_back(
      {static_cast<std::int64_t>(first), static_cast<std::int64_t>(entries.size())});
  costs_.push_back(counts.cost(schedule_.tiling.costs));
}

void StepPacker::forget_patterns() {
  steps_.clear();
  bitmap_of_step_.clear();
}

void StepPacker::merge_full_steps() {
  if (!in_order_) {
    sort_by_position(contiguous_);
    sort_by_position(gathered_);
  }
  if (gathered_.empty()) {
    full_.swap(contiguous_);
  } else {
    merge_by_position(contiguous_, gathered_, full_);
  }
}

// Whole steps of full cells: as many contiguous ones as the runs hold, the rest gathered; what does
// not fill a step is left over with the partial cells.
void StepPacker::make_full_steps(std::uint8_t parts) {
  Group& group = groups_[parts];
  const bool has_shared = parts == present_parts() && !shared_loose_.empty();
  if (!has_shared && group.full_runs.empty()) {
    group.leftover.swap(group.partial);
    return;
  }
  for (const Range run : group.full_runs) {
    std::int64_t begin =
        any_start_ ? run.begin : std::min(round_up(run.begin, inner_tile_), run.end);
    add_loose(group, {run.begin, begin}, parts);
    begin = add_contiguous({begin, run.end}, parts);
    add_loose(group, {begin, run.end}, parts);
  }
  if (has_shared) add_shared_loose(parts);
  std::size_t whole = 0;
  for (; whole + cells_per_step_ <= group.loose.size(); whole += cells_per_step_) {
    add_step(std::span(group.loose).subspan(whole, cells_per_step_));
  }
  std::ranges::merge(std::span(group.loose).subspan(whole), group.partial,
                     std::back_inserter(group.leftover), {}, &Cell::begin, &Cell::begin);
}

void StepPacker::add_shared_loose(std::uint8_t parts) {
  const std::int32_t pattern = patterns_.full(rows_, cell_, parts);
  for (Cell& cell : shared_loose_) cell.pattern = pattern;
  std::vector<Cell>& loose = groups_[parts].loose;
  merged_.clear();
  std::ranges::merge(shared_loose_, loose, std::back_inserter(merged_), {}, &Cell::begin,
                     &Cell::begin);
  loose.swap(merged_);
}

void StepPacker::add_loose(Group& group, Range cells, std::uint8_t parts) {
  for (std::int64_t begin = cells.begin; begin < cells.end; begin += cell_) {
    const std::int64_t columns = std::min(cell_, inner_len_ - begin);
    // What the sequence clips can not stand in a full gathered step.
    (columns == cell_ ? group.loose : group.partial)
        .push_back({static_cast<std::int32_t>(begin), patterns_.full(rows_, columns, parts)});
  }
}

// Returns where the last whole step ends.
std::int64_t StepPacker::add_contiguous(Range cells, std::uint8_t parts) {
  std::int64_t begin = cells.begin;
  if (!contiguous_.empty() && contiguous_.back().begin > begin) in_order_ = false;
  for (; begin + inner_tile_ <= cells.end; begin += inner_tile_) {
    contiguous_.push_back(TileEntry::contiguous(begin, TileEntry::kFull, parts));
  }
  return begin;
}

// With `num_steps` steps for both parts, as many single-part cells in their free places as save
// steps of their own.
StepPacker::Mixture StepPacker::mix(std::size_t num_steps) const {
  const std::array<std::size_t, 2> count = {groups_[kFirst].leftover.size(),
                                            groups_[kSecond].leftover.size()};
  std::array<std::size_t, 2> moved{};
  std::size_t free = num_steps * cells_per_step_ - groups_[kBoth].leftover.size();
  // Cells that must go for one step less.
  const std::array<std::size_t, 2> excess = {
      count[0] - (steps_for(count[0]) - (count[0] != 0 ? 1 : 0)) * cells_per_step_,
      count[1] - (steps_for(count[1]) - (count[1] != 0 ? 1 : 0)) * cells_per_step_};
  const std::size_t fewer = excess[1] < excess[0] ? 1 : 0;
  for (const std::size_t part : {fewer, 1 - fewer}) {
    if (excess[part] > free) continue;
    moved[part] = excess[part];
    free -= moved[part];
  }
  const std::size_t own = steps_for(count[0] - moved[0]) + steps_for(count[1] - moved[1]);
  return {moved[0], moved[1],
          static_cast<float>(num_steps) +
              schedule_.tiling.costs.half_skipped * static_cast<float>(own)};
}

StepPacker::Mixture StepPacker::best_mixture() const {
  if (groups_[kFirst].leftover.empty() && groups_[kSecond].leftover.empty()) return {};
  const std::size_t least = steps_for(groups_[kBoth].leftover.size());
  const Mixture tight = mix(least);
  if (groups_[kFirst].leftover.empty() || groups_[kSecond].leftover.empty()) return tight;
  const Mixture roomy = mix(least + 1);
  return roomy.cost < tight.cost ? roomy : tight;
}

void StepPacker::move_to_both(std::uint8_t parts, std::size_t count) {
  if (count == 0) return;
  std::vector<Cell>& from = groups_[parts].leftover;
  std::vector<Cell>& to = groups_[kBoth].leftover;
  merged_.clear();
  std::ranges::merge(to, std::span(from).last(count), std::back_inserter(merged_), {}, &Cell::begin,
                     &Cell::begin);
  to.swap(merged_);
  from.resize(from.size() - count);
}

void StepPacker::make_leftover_steps(const Group& group) {
  const std::span cells(group.leftover);
  for (std::size_t i = 0; i < cells.size(); i += cells_per_step_) {
    add_step(cells.subspan(i, std::min(cells_per_step_, cells.size() - i)));
  }
}

void StepPacker::add_step(std::span<const Cell> cells) {
  std::uint8_t live = 0;
  bool clipped = false;
  for (const Cell& cell : cells) {
    live |= patterns_[cell.pattern].live_parts;
    clipped |= patterns_[cell.pattern].clipped;
  }
  const bool full = std::ranges::all_of(
      cells, [&](const Cell& cell) { return patterns_[cell.pattern].full_parts == live; });
  const std::int64_t begin = cells.front().begin;
  const bool adjacent =
      cells.back().begin - begin == static_cast<std::int64_t>(cells.size() - 1) * cell_;
  const bool reaches_end = cells.back().begin + cell_ >= inner_len_;
  const bool contiguous =
      adjacent && may_be_contiguous(begin) && (cells.size() == cells_per_step_ || reaches_end);
  TileEntry entry = TileEntry::contiguous(begin, TileEntry::kFull, live);
  if (!contiguous) {
    entry = TileEntry::gathered(schedule_.sub_tiles.size(), TileEntry::kFull, live, cells.size(),
                                cell_);
    for (const Cell& cell : cells) schedule_.sub_tiles.push_back(cell.begin);
  }
  if (full && (contiguous || (cells.size() == cells_per_step_ && !clipped))) {
    std::vector<TileEntry>& steps = contiguous ? contiguous_ : gathered_;
    if (!steps.empty() && position(steps.back()) > begin) in_order_ = false;
    steps.push_back(entry);
    return;
  }
  entry.set_bitmap(bitmap_of(cells));
  partial_.push_back(entry);
}

std::int32_t StepPacker::bitmap_of(std::span<const Cell> cells) {
  key_.assign(1 + (cells.size() + 1) / 2, 0);  // two patterns a word
  key_[0] = cells.size();
  for (std::size_t i = 0; i < cells.size(); ++i) {
    key_[1 + i / 2] |= static_cast<std::uint64_t>(cells[i].pattern) << (i % 2 * 32);
  }
  const WordDictionary::Place step = steps_.add(key_);
  if (step.is_new) {
    bitmap_of_step_.push_back(with_bitmaps_ ? make_bitmap(cells) : 0);
    ++num_distinct_;
  }
  return bitmap_of_step_[static_cast<std::size_t>(step.index)];
}

std::int32_t StepPacker::make_bitmap(std::span<const Cell> cells) {
  const auto words_per_row = static_cast<std::size_t>(schedule_.bitmaps.words_per_row());
  bits_.assign(schedule_.bitmaps.words_per_tile(), 0);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellPattern& pattern = patterns_[cells[i].pattern];
    const std::size_t column = i * static_cast<std::size_t>(cell_);
    for (std::size_t row = 0; row < static_cast<std::size_t>(rows_); ++row) {
      std::uint64_t* const bits = bits_.data() + row * words_per_row + column / 64;
      for (std::size_t w = 0; w < patterns_.words_of(pattern); ++w) {
        bits[w] |= patterns_.word(pattern, row, w) << (column % 64);
      }
    }
  }
  const std::int32_t bitmap = schedule_.bitmaps.add(bits_);
  demand(bitmap < TileEntry::kMostBitmaps, "schedule: more than ", TileEntry::kMostBitmaps,
         " different partial tiles");
  return bitmap;
}

std::int32_t StepPacker::position(const TileEntry& entry) const {
  return entry.is_gathered() ? schedule_.sub_tiles[static_cast<std::size_t>(entry.begin)]
                             : entry.begin;
}

void StepPacker::sort_by_position(std::vector<TileEntry>& entries) const {
  const auto by_position = [&](const TileEntry& a, const TileEntry& b) {
    return position(a) < position(b);
  };
  if (!std::ranges::is_sorted(entries, by_position)) std::ranges::sort(entries, by_position);
}

void StepPacker::merge_by_position(std::span<const TileEntry> a, std::span<const TileEntry> b,
                                   std::vector<TileEntry>& merged) const {
  const bool apart = a.empty() || b.empty() || position(a.back()) < position(b.front());
  if (apart) {
    merged.insert(merged.end(), a.begin(), a.end());
    merged.insert(merged.end(), b.begin(), b.end());
    return;
  }
  const auto by_position = [&](const TileEntry& entry) { return position(entry); };
  std::ranges::merge(a, b, std::back_inserter(merged), {}, by_position, by_position);
}

}  // namespace perpend
