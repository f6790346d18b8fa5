#include "perpend/schedule/list_templates.h"

#include <algorithm>

namespace perpend {

void ListName::start(std::int32_t classes, std::span<const Range> tiles, std::int64_t origin) {
  words_.assign({classes, static_cast<std::int64_t>(tiles.size())});
  for (const Range tile : tiles) words_.push_back(tile.size());
  anchors_.clear();
  origin_ = origin;
  end_ = 0;
}

void ListName::add(Range inner, Kind kind, std::uint8_t parts) {
  const std::int64_t distance = inner.begin - origin_;
  const std::int64_t phase = distance - floor_div(distance, period_) * period_;
  words_.push_back(static_cast<std::int64_t>(kind) | std::int64_t{parts} << 8 | phase << 32);
  words_.push_back(inner.size());
  add_anchor(inner.begin);
  end_ = inner.end;
}

void ListName::add_end(std::int64_t position) {
  words_.push_back(static_cast<std::int64_t>(Kind::kEnd));
  add_anchor(position);
}

void ListName::add_anchor(std::int64_t position) {
  words_.push_back(std::min(position - end_, near_));
  anchors_.push_back(static_cast<std::int32_t>(position));
  end_ = position;
}

bool ListTemplates::find(std::size_t num_lists) {
  constexpr std::int32_t kMost = 1 << 12;
  if (keys_.count() >= kMost) clear();
  const WordDictionary::Place place = keys_.add(as_words(name_.words()));
  if (place.is_new) templates_.push_back({lists_.size(), 0});
  present_ = place.index;
  const bool is_kept = templates_[static_cast<std::size_t>(present_)].num_lists == num_lists;
  ++(is_kept ? num_known_ : num_new_);
  if (!place.is_new && !is_kept) skip();  // they were too long
  return is_kept;
}

void ListTemplates::keep_place(std::int32_t position) {
  const auto& anchors = name_.anchors();
  const std::int32_t end = position + reach_;
  // Mostly that of the place before.
  const std::size_t last = places_.empty() ? 0 : static_cast<std::size_t>(places_.back().anchor);
  const bool is_last = last + 1 < anchors.size() && anchors[last] <= end && end < anchors[last + 1];
  const auto anchor = is_last ? anchors.begin() + static_cast<std::ptrdiff_t>(last)
                              : std::ranges::upper_bound(anchors, end) - 1;
  places_.push_back({static_cast<std::int32_t>(anchor - anchors.begin()), position - *anchor});
}

void ListTemplates::keep(std::span<const TileEntry> partial, std::span<const TileEntry> full,
                         const StepCounts& counts, std::span<const std::int32_t> sub_tiles) {
  constexpr std::size_t kMostSteps = 64;  // a long list costs memory, and is made fast by the step
  if (present_ < 0) return;
  if (partial.size() + full.size() > kMostSteps) return skip();
  List list{steps_.size(), 0, 0, places_.size(), counts};
  steps_.insert(steps_.end(), partial.begin(), partial.end());
  list.first_full = steps_.size();
  steps_.insert(steps_.end(), full.begin(), full.end());
  list.end = steps_.size();
  for (const TileEntry& step : std::span(steps_).subspan(list.first)) {
    if (!step.is_gathered()) {
      keep_place(step.begin);
      continue;
    }
    const auto cells = sub_tiles.subspan(static_cast<std::size_t>(step.begin));
    for (const std::int32_t cell : cells.first(static_cast<std::size_t>(step.num_sub_tiles()))) {
      keep_place(cell);
    }
  }
  lists_.push_back(list);
  ++templates_[static_cast<std::size_t>(present_)].num_lists;
}

const StepCounts& ListTemplates::write(std::size_t index, std::vector<TileEntry>& partial,
                                       std::vector<TileEntry>& full,
                                       std::vector<std::int32_t>& sub_tiles) {
  const Template& present = templates_[static_cast<std::size_t>(present_)];
  const List& list = lists_[present.first + index];
  num_written_ += list.end - list.first;
  const Place* place = places_.data() + list.first_place;
  const std::span steps(steps_);
  place = write(steps.subspan(list.first, list.first_full - list.first), place, partial, sub_tiles);
  write(steps.subspan(list.first_full, list.end - list.first_full), place, full, sub_tiles);
  return list.counts;
}

const ListTemplates::Place* ListTemplates::write(std::span<const TileEntry> steps,
                                                 const Place* place,
                                                 std::vector<TileEntry>& entries,
                                                 std::vector<std::int32_t>& sub_tiles) const {
  const std::int32_t* anchors = name_.anchors().data();
  const auto next_position = [&] {
    const std::int32_t position = anchors[place->anchor] + place->offset;
    ++place;
    return position;
  };
  entries.assign(steps.begin(), steps.end());
  for (TileEntry& entry : entries) {
    if (!entry.is_gathered()) {
      entry.begin = next_position();
      continue;
    }
    entry.begin = static_cast<std::int32_t>(sub_tiles.size());
    for (int s = entry.num_sub_tiles(); s > 0; --s) sub_tiles.push_back(next_position());
  }
  return place;
}

void ListTemplates::clear() {
  keys_.clear();
  templates_.clear();
  lists_.clear();
  steps_.clear();
  places_.clear();
  present_ = -1;
  num_new_ = 0;
  num_known_ = 0;
  num_written_ = 0;
}

}  // namespace perpend
