#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "perpend/kernels/cpu/inner_panels.h"

namespace perpend {

// The units of some steps of an item, put together so that a block of lanes handles them at once.
// Which units meet depends on the item's own lists alone, and so do all bits of the result. What
// was selected from a batch stays valid while the next one is handled.
class StepBatch {
 public:
  // Adds what it needs for items of up to `max_rows` rows to `layout`.
  StepBatch(const PanelForms& forms, int max_rows, ScratchLayout& layout)
      : forms_(&forms),
        capacity_(capacity_for(forms)),
        max_rows_(max_rows),
        bits_at_(layout.add<std::uint32_t>(count(max_rows) * tile::kMaxUnits)),
        states_at_(layout.add<std::uint8_t>(count(max_rows) / tile::kLanes * tile::kMaxUnits)),
        gathered_at_(layout.add<std::byte>(forms.unit_bytes() * tile::kMaxUnits)) {}

  void bind(ScratchView scratch) {
    bits_ = scratch.at<std::uint32_t>(bits_at_);
    states_ = scratch.at<std::uint8_t>(states_at_);
    gathered_ = scratch.at<std::byte>(gathered_at_);
  }

  // The most units of a batch.
  static constexpr int kCapacity = tile::kMaxUnits / 2;

  // Calls flush() for all steps of a list, as many units at a time as suit the caches.
  template <class Flush>
  void for_batches(const TileRun& run, const Schedule& schedule, const OuterRows& rows,
                   int inner_head, std::span<const TileEntry> list, Flush flush) {
    const std::int64_t inner_len = schedule.inner_len(rows.sequence);
    for (const TileEntry& entry : list) {
      for_units(schedule, entry, inner_len, [&](int column, std::int64_t token, int num_rows) {
        add(run, schedule, rows, inner_head, entry, column, token, num_rows);
        if (end_ - begin_ == capacity_) turn(flush);
      });
    }
    if (end_ > begin_) turn(flush);
  }

  // What of the batch one block of lanes can see; `chosen` are indices of units.
  struct Selection {
    TileUnits units;
    std::array<std::size_t, tile::kMaxUnits> chosen;
  };
  Selection select(int block) const;

  // Panels of the chosen units, `offset` bytes from the first.
  UnitPanels panels(const Selection& selection, std::size_t offset) const {
    UnitPanels result{};
    for (std::size_t i = 0; i < count(selection.units.count); ++i) {
      result[i] = units_[selection.chosen[i]].panels + offset;
    }
    return result;
  }
  // The units of this batch.
  std::size_t begin() const { return count(begin_); }
  std::size_t end() const { return count(end_); }
  // Inner positions of a unit, below 0 where there is none.
  const PanelForms::Tokens& tokens(std::size_t unit) const { return units_[unit].tokens; }
  // Whether they follow each other.
  bool is_run(std::size_t unit) const { return units_[unit].is_run; }

 private:
  enum State : std::uint8_t { kNone, kSome, kAll };
  struct Unit {
    const std::byte* panels;
    int num_rows;
    bool is_run;
    PanelForms::Tokens tokens;
  };

  // Panels of a batch that stay in the first cache beside scores, weights and sums while all blocks
  // of lanes use them. Where they do not, more units spare the sums some ways.
  static constexpr std::size_t kCachedBytes = std::size_t{36} << 10;
  static int capacity_for(const PanelForms& forms) {
    constexpr int kFew = 3;
    return forms.unit_bytes() * kFew <= kCachedBytes ? kFew : kCapacity;
  }

  static constexpr std::size_t count(int n) { return static_cast<std::size_t>(n); }
  // Batches take the two halves of the arrays in turns.
  template <class Flush>
  void turn(Flush& flush) {
    flush();
    begin_ = end_ = begin_ == 0 ? kCapacity : 0;
  }
  void add(const TileRun& run, const Schedule& schedule, const OuterRows& rows, int inner_head,
           const TileEntry& entry, int column, std::int64_t token, int num_rows);
  void find_tokens(const Schedule& schedule, const OuterRows& rows, const TileEntry& entry,
                   int column, std::int64_t token, int num_rows);
  void find_bits(const Schedule& schedule, const OuterRows& rows, const TileEntry& entry,
                 int column);
  std::uint32_t* bits(std::size_t unit) const { return bits_ + unit * count(max_rows_); }
  std::uint8_t& state(std::size_t unit, int block) const {
    return states_[unit * count(max_rows_ / tile::kLanes) + count(block)];
  }

  const PanelForms* forms_;
  int capacity_;
  int max_rows_;
  std::size_t bits_at_;
  std::size_t states_at_;
  std::size_t gathered_at_;
  std::uint32_t* bits_ = nullptr;   // [units, max_rows]
  std::uint8_t* states_ = nullptr;  // [units, blocks]
  std::byte* gathered_ = nullptr;   // [units]
  int begin_ = 0;
  int end_ = 0;
  std::array<Unit, tile::kMaxUnits> units_;
};

}  // namespace perpend
