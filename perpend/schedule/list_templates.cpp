#include "perpend/schedule/list_templates.h"

#include <algorithm>

namespace perpend {

void ListName::start(std::int32_t classes, std::int64_t rows, std::int64_t origin) {
  words_.assign({classes, rows});
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

bool ListTemplates::find() {
  constexpr std::int32_t kMost = 1 << 12;
  if (keys_.count() >= kMost) clear();
  const WordDictionary::Place place = keys_.add(as_words(name_.words()));
  if (place.is_new) templates_.emplace_back();
  present_ = place.index;
  const bool is_kept = kept().first >= 0;
  ++(is_kept ? num_known_ : num_new_);
  return is_kept;
}

void ListTemplates::keep_place(std::int32_t position) {
  const auto& anchors = name_.anchors();
  const auto anchor = std::ranges::upper_bound(anchors, position + reach_) - 1;
  places_.push_back({static_cast<std::int32_t>(anchor - anchors.begin()), position - *anchor});
}

void ListTemplates::keep(std::span<const TileEntry> partial, std::span<const TileEntry> full,
                         std::span<const std::int32_t> sub_tiles) {
  constexpr std::size_t kMostSteps = 256;  // a long list costs memory, and is made fast by the step
  if (present_ < 0 || partial.size() + full.size() > kMostSteps) return;
  const auto first = static_cast<std::int32_t>(steps_.size());
  for (const std::span<const TileEntry> steps : {partial, full}) {
    for (const TileEntry& entry : steps) {
      steps_.push_back({entry, static_cast<std::int32_t>(places_.size())});
      if (!entry.is_gathered()) {
        keep_place(entry.begin);
        continue;
      }
      const auto cells = sub_tiles.subspan(static_cast<std::size_t>(entry.begin));
      for (const std::int32_t cell : cells.first(entry.num_sub_tiles)) keep_place(cell);
    }
  }
  templates_[static_cast<std::size_t>(present_)] = {
      first, first + static_cast<std::int32_t>(partial.size()),
      static_cast<std::int32_t>(steps_.size())};
}

void ListTemplates::write(std::int32_t first, std::int32_t end, std::vector<TileEntry>& entries,
                          std::vector<std::int32_t>& sub_tiles) const {
  for (std::int32_t i = first; i < end; ++i) {
    const Step& step = steps_[static_cast<std::size_t>(i)];
    TileEntry entry = step.entry;
    const Place* place = places_.data() + step.place;
    if (entry.is_gathered()) {
      entry.begin = static_cast<std::int32_t>(sub_tiles.size());
      for (int s = entry.num_sub_tiles; s > 0; --s) sub_tiles.push_back(position(*place++));
    } else {
      entry.begin = position(*place);
    }
    entries.push_back(entry);
  }
}

void ListTemplates::clear() {
  keys_.clear();
  templates_.clear();
  steps_.clear();
  places_.clear();
  present_ = -1;
  num_new_ = 0;
  num_known_ = 0;
}

}  // namespace perpend
