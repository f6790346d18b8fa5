#include "perpend/kernels/cpu/step_batch.h"

#include <algorithm>

namespace perpend {

StepBatch::Selection StepBatch::select(int block) const {
  Selection selection{};
  for (std::size_t unit = begin(); unit < end(); ++unit) {
    const std::uint8_t seen = state(unit, block);
    if (seen == kNone) continue;
    const std::size_t at = count(selection.units.count++);
    selection.chosen[at] = unit;
    selection.units.num_rows[at] = units_[unit].num_rows;
    selection.units.bits[at] = seen == kAll ? nullptr : bits(unit) + block * tile::kLanes;
  }
  return selection;
}

void StepBatch::add(const TileRun& run, const Schedule& schedule, const OuterRows& rows,
                    int inner_head, const TileEntry& entry, int column, std::int64_t token,
                    int num_rows) {
  Unit& unit = units_[count(end_)];
  find_tokens(schedule, rows, entry, column, token, num_rows);
  if (token >= 0 && token % tile::kUnit == 0) {
    unit.panels = run.panels_of(rows.sequence, inner_head, token);
  } else {
    std::byte* panels = gathered_ + count(end_) * forms_->unit_bytes();
    forms_->pack(rows.sequence, inner_head, unit.tokens, panels);
    unit.panels = panels;
  }
  find_bits(schedule, rows, entry, column);
  ++end_;
}

void StepBatch::find_tokens(const Schedule& schedule, const OuterRows& rows, const TileEntry& entry,
                            int column, std::int64_t token, int num_rows) {
  Unit& unit = units_[count(end_)];
  unit.num_rows = num_rows;
  unit.is_run = token >= 0;
  if (token >= 0) {
    for (int row = 0; row < tile::kUnit; ++row) {
      unit.tokens[count(row)] = row < num_rows ? static_cast<std::int32_t>(token + row) : -1;
    }
    return;
  }
  unit.tokens.fill(-1);
  unit.num_rows = 0;
  schedule.for_pieces(entry, schedule.inner_len(rows.sequence),
                      [&](std::int32_t begin, int size, int first) {
                        for (int i = 0; i < size; ++i) {
                          const int row = first + i - column;
                          if (row < 0 || row >= tile::kUnit) continue;
                          unit.tokens[count(row)] = begin + i;
                          unit.num_rows = std::max(unit.num_rows, row + 1);
                        }
                      });
}

void StepBatch::find_bits(const Schedule& schedule, const OuterRows& rows, const TileEntry& entry,
                          int column) {
  const auto unit = count(end_);
  std::uint32_t exists = 0;
  const int num_rows = units_[unit].num_rows;
  for (int row = 0; row < num_rows; ++row) {
    if (units_[unit].tokens[count(row)] >= 0) exists |= std::uint32_t{1} << row;
  }
  const std::uint32_t all =
      num_rows == tile::kUnit ? ~std::uint32_t{0} : (std::uint32_t{1} << num_rows) - 1;
  const int outer_part = schedule.plans[count(rows.sequence)].outer_part;
  const auto lives = [&](int row) { return (entry.live_parts() >> (row / outer_part) & 1) != 0; };
  bool all_live = entry.is_full() && exists == all;
  for (int row = 0; row < rows.size; row += outer_part) all_live &= lives(row);
  if (all_live) {
    for (int block = 0; block < rows.num_blocks(); ++block) {
      state(unit, block) = num_rows > 0 ? kAll : kNone;
    }
    return;
  }
  std::uint32_t* words = bits(unit);
  for (int row = 0; row < rows.size; ++row) {
    words[row] = lives(row) ? exists : 0;
    if (!entry.is_full()) {
      words[row] &= static_cast<std::uint32_t>(
          schedule.bitmaps.row(entry.bitmap(), row)[count(column / 64)] >> (column % 64));
    }
  }
  for (int head = 1; head < rows.num_heads; ++head) {
    std::copy_n(words, rows.size, words + head * rows.size);
  }
  std::fill(words + rows.num_rows(), words + rows.num_blocks() * tile::kLanes, 0U);
  for (int block = 0; block < rows.num_blocks(); ++block) {
    const std::uint32_t* first = words + block * tile::kLanes;
    const int lanes = std::min(tile::kLanes, rows.num_rows() - block * tile::kLanes);
    std::uint32_t any = 0;
    std::uint32_t every = all;
    for (int lane = 0; lane < lanes; ++lane) {
      any |= first[lane];
      every &= first[lane];
    }
    state(unit, block) = any == 0 ? kNone : every == all ? kAll : kSome;
  }
}

}  // namespace perpend
