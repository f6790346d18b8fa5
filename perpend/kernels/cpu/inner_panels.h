#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "perpend/core/function_ref.h"
#include "perpend/core/thread_pool.h"
#include "perpend/kernels/cpu/attention_operands.h"
#include "perpend/kernels/cpu/scratch.h"
#include "perpend/kernels/cpu/tile_micro.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// A tensor on the inner axis of a sweep, and what the products read of it.
struct InnerOperand {
  TokenRows rows;
  bool as_rows = false;     // as X
  bool as_columns = false;  // as X^T
};

// The panels that one unit of inner rows has: those of all operands side by side, in a fixed order.
class PanelForms {
 public:
  PanelForms(const PanelMicro& micro, int dim, std::span<const InnerOperand> operands);

  // Offset of an operand's panel as X or X^T from the panels of a unit.
  std::size_t rows(int operand) const { return rows_[static_cast<std::size_t>(operand)]; }
  std::size_t columns(int operand) const { return columns_[static_cast<std::size_t>(operand)]; }
  std::size_t unit_bytes() const { return unit_bytes_; }
  // Packs the rows of `tokens`, of which those below 0 do not exist.
  using Tokens = std::array<std::int32_t, tile::kUnit>;
  void pack(std::int32_t sequence, int head, const Tokens& tokens, std::byte* panels) const;

 private:
  static constexpr std::size_t kMaxOperands = 2;
  const PanelMicro& micro_;
  std::span<const InnerOperand> operands_;
  std::array<std::size_t, kMaxOperands> rows_{};
  std::array<std::size_t, kMaxOperands> columns_{};
  std::size_t unit_bytes_ = 0;
};

// Runs items of a sweep over panels that are packed once and shared by all items of a group, that
// is, of a sequence and a key/value head. Groups are taken in chunks whose panels fit a budget;
// units that no list names are not packed.
class TileRun {
 public:
  // Hands out items to workers, longest of a group first.
  class Items {
   public:
    Items(const Schedule& schedule, const std::int32_t* order, std::int32_t begin, std::int32_t end)
        : schedule_(schedule), order_(order), next_(begin), end_(end) {}
    const WorkItem* next() {
      const std::int32_t at = next_.fetch_add(1, std::memory_order_relaxed);
      return at < end_ ? &schedule_.items[static_cast<std::size_t>(order_[at])] : nullptr;
    }

   private:
    const Schedule& schedule_;
    const std::int32_t* order_;
    std::atomic<std::int32_t> next_;
    std::int32_t end_;
  };

  // Tells which items are run.
  using Takes = bool (*)(const Schedule& schedule, const WorkItem& item);

  // Adds what it needs to `layout`.
  TileRun(const Schedule& schedule, const PanelForms& forms, Takes takes, ScratchLayout& layout);

  bool is_empty() const { return num_items_ == 0; }
  // Rows of the largest item, rounded up to whole blocks.
  int max_rows() const { return max_rows_; }
  // Calls body(worker, items) once a chunk for each worker below num_workers.
  void run(ScratchView scratch, int num_workers, ThreadPool& threads,
           FunctionRef<void(int, Items&)> body);

  // Panels of a unit that begins at a multiple of kUnit and that a list names.
  const std::byte* panels_of(std::int32_t sequence, int inner_head, std::int64_t token) const {
    return panels_ +
           static_cast<std::size_t>(slot(sequence, inner_head, token)) * forms_.unit_bytes();
  }

 private:
  struct Job {  // a unit to be packed
    std::int32_t sequence;
    std::int32_t head;
    std::int32_t token;
  };

  int num_groups() const;
  int inner_heads_of_a_group() const;
  std::int64_t num_units(std::int32_t sequence) const;
  std::int64_t units_of_group(int group) const;
  int chunk_end(int first_group) const;
  std::int32_t& slot(std::int32_t sequence, int inner_head, std::int64_t token) const {
    return slots_[first_units_[sequence] * inner_heads_ + inner_head * num_units(sequence) +
                  token / tile::kUnit];
  }
  void group_items();
  void find_jobs(int group);
  void pack(ThreadPool& threads);

  const Schedule& schedule_;
  const PanelForms& forms_;
  Takes takes_;
  std::int64_t inner_heads_ = 0;
  std::int64_t num_items_ = 0;
  int max_rows_ = 0;
  std::array<std::size_t, 6> offsets_{};
  // In the scratch memory:
  std::int32_t* group_begins_ = nullptr;  // [groups + 1], into order_
  std::int32_t* order_ = nullptr;         // indices of items
  std::int64_t* first_units_ = nullptr;   // [sequences + 1]
  std::int32_t* slots_ = nullptr;         // of each unit of each inner head, -1: not packed
  Job* jobs_ = nullptr;                   // by slot
  std::byte* panels_ = nullptr;           // by slot
  std::int32_t num_jobs_ = 0;
};

// Calls body(column, token, num_rows) for the units of a step: `token` is the first inner position,
// or -1 where a unit is not one run of positions.
template <class Body>
void for_units(const Schedule& schedule, const TileEntry& entry, std::int64_t inner_len,
               Body body) {
  const int inner_tile = schedule.plan.inner_tile;
  const int sub_tile = entry.is_gathered() ? entry.sub_tile() : inner_tile;
  for (int column = 0; column < inner_tile; column += tile::kUnit) {
    const int width = std::min(tile::kUnit, inner_tile - column);
    std::int64_t token = entry.begin + column;
    if (entry.is_gathered()) {
      const auto sub_tiles = schedule.sub_tiles_of(entry);
      const auto index = static_cast<std::size_t>(column / sub_tile);
      if (index >= sub_tiles.size()) return;
      if (sub_tile % tile::kUnit != 0) {
        body(column, std::int64_t{-1}, width);
        continue;
      }
      token = sub_tiles[index] + column % sub_tile;
    }
    const auto num_rows = static_cast<int>(std::min<std::int64_t>(width, inner_len - token));
    if (num_rows > 0) body(column, token, num_rows);
  }
}

}  // namespace perpend
