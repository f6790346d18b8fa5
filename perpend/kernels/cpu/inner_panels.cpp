#include "perpend/kernels/cpu/inner_panels.h"

#include <algorithm>

namespace perpend {
namespace {

// Panels that are packed at a time, unless one group alone needs more.
constexpr std::size_t kPanelBudget = std::size_t{64} << 20;

}  // namespace

PanelForms::PanelForms(const PanelMicro& micro, int dim, std::span<const InnerOperand> operands)
    : micro_(micro), operands_(operands) {
  const std::size_t bytes = micro.panel_bytes(dim);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const bool shared = !micro.transposes;
    if (operands[i].as_rows || shared) {
      rows_[i] = unit_bytes_;
      unit_bytes_ += bytes;
    }
    columns_[i] = rows_[i];
    if (operands[i].as_columns && !shared) {
      columns_[i] = unit_bytes_;
      unit_bytes_ += bytes;
    }
  }
}

void PanelForms::pack(std::int32_t sequence, int head, const Tokens& tokens,
                      std::byte* panels) const {
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    const InnerOperand& operand = operands_[i];
    RowPointers pointers{operand.rows.dtype(), operand.rows.dim(), {}};
    std::int64_t left = 0;  // rows from here on that follow the one before
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      if (tokens[row] < 0) continue;
      const bool follows = left > 0 && tokens[row] == tokens[row - 1] + 1;
      left = follows ? left - 1 : operand.rows.run_length(tokens[row]) - 1;
      pointers.rows[row] = follows ? pointers.rows[row - 1] + operand.rows.stride()
                                   : operand.rows.row(sequence, head, tokens[row]);
    }
    const bool wants_rows = operand.as_rows || !micro_.transposes;
    const bool wants_columns = operand.as_columns && micro_.transposes;
    micro_.pack_unit(pointers, wants_rows ? panels + rows_[i] : nullptr,
                     wants_columns ? panels + columns_[i] : nullptr);
  }
}

TileRun::TileRun(const Schedule& schedule, const PanelForms& forms, Takes takes,
                 ScratchLayout& layout)
    : schedule_(schedule), forms_(forms), takes_(takes) {
  inner_heads_ =
      schedule.sweep == Sweep::kRows ? schedule.shape.num_kv_heads : schedule.shape.num_q_heads;
  for (const WorkItem& item : schedule.items) {
    if (!takes_(schedule, item)) continue;
    ++num_items_;
    const int heads = schedule.sweep == Sweep::kRows ? item.num_heads : 1;
    max_rows_ = std::max(max_rows_, heads * item.size);
  }
  if (num_items_ == 0) return;
  max_rows_ = static_cast<int>(round_up(max_rows_, tile::kLanes));
  std::int64_t all_units = 0;
  for (std::size_t s = 0; s < schedule.shape.sequences.size(); ++s) {
    all_units += num_units(static_cast<std::int32_t>(s)) * inner_heads_;
  }
  std::int64_t most_units = 0;
  for (int group = 0; group < num_groups();) {
    std::int64_t units = 0;
    for (const int end = chunk_end(group); group < end; ++group) units += units_of_group(group);
    most_units = std::max(most_units, units);
  }
  const auto count = [](auto n) { return static_cast<std::size_t>(n); };
  offsets_ = {layout.add<std::int32_t>(count(num_groups() + 1)),
              layout.add<std::int32_t>(count(num_items_)),
              layout.add<std::int64_t>(schedule.shape.sequences.size() + 1),
              layout.add<std::int32_t>(count(all_units)),
              layout.add<Job>(count(most_units)),
              layout.add<std::byte>(count(most_units) * forms.unit_bytes())};
}

int TileRun::num_groups() const {
  return static_cast<int>(schedule_.shape.sequences.size()) * schedule_.shape.num_kv_heads;
}

int TileRun::inner_heads_of_a_group() const {
  return schedule_.sweep == Sweep::kRows ? 1 : schedule_.shape.group_size();
}

std::int64_t TileRun::num_units(std::int32_t sequence) const {
  return ceil_div(schedule_.inner_len(sequence), tile::kUnit);
}

std::int64_t TileRun::units_of_group(int group) const {
  return num_units(group / schedule_.shape.num_kv_heads) * inner_heads_of_a_group();
}

int TileRun::chunk_end(int first_group) const {
  std::size_t bytes = 0;
  int group = first_group;
  for (; group < num_groups(); ++group) {
    bytes += static_cast<std::size_t>(units_of_group(group)) * forms_.unit_bytes();
    if (bytes > kPanelBudget && group > first_group) break;
  }
  return group;
}

// A stable counting sort, so that items of a group keep their order.
void TileRun::group_items() {
  const auto group_of = [&](const WorkItem& item) {
    return item.sequence * schedule_.shape.num_kv_heads +
           item.q_head / schedule_.shape.group_size();
  };
  std::fill_n(group_begins_, num_groups() + 1, 0);
  for (const WorkItem& item : schedule_.items) {
    if (takes_(schedule_, item)) ++group_begins_[group_of(item)];
  }
  std::int32_t begin = 0;
  for (int group = 0; group <= num_groups(); ++group) {
    const std::int32_t size = group_begins_[group];
    group_begins_[group] = begin;
    begin += group < num_groups() ? size : 0;
  }
  for (std::size_t i = 0; i < schedule_.items.size(); ++i) {
    const WorkItem& item = schedule_.items[i];
    if (takes_(schedule_, item)) order_[group_begins_[group_of(item)]++] = static_cast<int>(i);
  }
  // Each begin has moved to its end, the begin of the next.
  for (int group = num_groups(); group > 0; --group)
    group_begins_[group] = group_begins_[group - 1];
  group_begins_[0] = 0;
}

void TileRun::find_jobs(int group) {
  const std::int32_t sequence = group / schedule_.shape.num_kv_heads;
  const int first_head = group % schedule_.shape.num_kv_heads * inner_heads_of_a_group();
  if (units_of_group(group) == 0) return;
  std::fill_n(&slot(sequence, first_head, 0), units_of_group(group), -1);
  for (std::int32_t i = group_begins_[group]; i < group_begins_[group + 1]; ++i) {
    const WorkItem& item = schedule_.items[static_cast<std::size_t>(order_[i])];
    for (int h = 0; h < item.num_heads; ++h) {
      const int inner_head = schedule_.sweep == Sweep::kRows ? first_head : item.q_head + h;
      // Heads that share both list and keys need one look.
      if (h > 0 && item.list_stride == 0 && schedule_.sweep == Sweep::kRows) break;
      for (const TileEntry& entry : schedule_.list_of(item, item.q_head + h)) {
        for_units(schedule_, entry, schedule_.inner_len(sequence),
                  [&](int /*column*/, std::int64_t token, int /*num_rows*/) {
                    if (token < 0 || token % tile::kUnit != 0) return;
                    std::int32_t& at = slot(sequence, inner_head, token);
                    if (at >= 0) return;
                    at = num_jobs_;
                    jobs_[num_jobs_++] = {sequence, inner_head, static_cast<std::int32_t>(token)};
                  });
      }
    }
  }
}

void TileRun::pack(ThreadPool& threads) {
  constexpr std::int64_t kUnitsOfATask = 8;
  threads.parallel_for(num_jobs_, kUnitsOfATask, [&](Range range) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const Job& job = jobs_[i];
      const std::int64_t inner_len = schedule_.inner_len(job.sequence);
      PanelForms::Tokens tokens;
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        const std::int32_t token = job.token + static_cast<std::int32_t>(row);
        tokens[row] = token < inner_len ? token : -1;
      }
      forms_.pack(job.sequence, job.head, tokens,
                  panels_ + static_cast<std::size_t>(i) * forms_.unit_bytes());
    }
  });
}

void TileRun::run(ScratchView scratch, int num_workers, ThreadPool& threads,
                  FunctionRef<void(int, Items&)> body) {
  if (is_empty()) return;
  group_begins_ = scratch.at<std::int32_t>(offsets_[0]);
  order_ = scratch.at<std::int32_t>(offsets_[1]);
  first_units_ = scratch.at<std::int64_t>(offsets_[2]);
  slots_ = scratch.at<std::int32_t>(offsets_[3]);
  jobs_ = scratch.at<Job>(offsets_[4]);
  panels_ = scratch.at<std::byte>(offsets_[5]);
  group_items();
  first_units_[0] = 0;
  for (std::size_t s = 0; s < schedule_.shape.sequences.size(); ++s) {
    first_units_[s + 1] = first_units_[s] + num_units(static_cast<std::int32_t>(s));
  }
  for (int group = 0; group < num_groups();) {
    const int first = group;
    const int end = chunk_end(first);
    if (group_begins_[first] == group_begins_[end]) {
      group = end;
      continue;
    }
    num_jobs_ = 0;
    for (; group < end; ++group) find_jobs(group);
    pack(threads);
    Items items(schedule_, order_, group_begins_[first], group_begins_[end]);
    threads.parallel_for(num_workers, 1, [&](Range workers) {
      for (auto worker = workers.begin; worker < workers.end; ++worker) {
        body(static_cast<int>(worker), items);
      }
    });
  }
}

}  // namespace perpend
