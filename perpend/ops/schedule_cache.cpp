#include "perpend/ops/schedule_cache.h"

#include <algorithm>

namespace perpend {
namespace {

std::size_t hash_of(std::span<const Mask> masks, const AttentionShape& shape, Sweep sweep) {
  std::size_t hash = static_cast<std::size_t>(sweep);
  const auto mix = [&](std::size_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15U ^ hash >> 29;
  };
  for (const Mask& mask : masks) mix(mask.hash());
  mix(static_cast<std::size_t>(shape.num_q_heads));
  mix(static_cast<std::size_t>(shape.num_kv_heads));
  for (const SequenceShape& sequence : shape.sequences) {
    for (const std::int64_t value : {sequence.q_len, sequence.kv_len, sequence.q_offset}) {
      mix(static_cast<std::size_t>(value));
    }
  }
  return hash;
}

}  // namespace

std::shared_ptr<const Schedule> ScheduleCache::get(std::span<const Mask> masks,
                                                   const AttentionShape& shape,
                                                   const Tiling& tiling, Sweep sweep) {
  const std::size_t hash = hash_of(masks, shape, sweep);
  if (auto known = find(hash, masks, shape, tiling, sweep)) return known;
  // Planned without the lock: others need not wait, and two that plan the same get equal plans.
  Entry entry{hash,
              {masks.begin(), masks.end()},
              std::make_shared<Schedule>(compile(masks, shape, tiling, sweep))};
  auto schedule = entry.schedule;
  add(std::move(entry));
  return schedule;
}

std::shared_ptr<const Schedule> ScheduleCache::find(std::size_t hash, std::span<const Mask> masks,
                                                    const AttentionShape& shape,
                                                    const Tiling& tiling, Sweep sweep) {
  const std::scoped_lock lock(mutex_);
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto found = first; found != last; ++found) {
    const Entry& entry = *found->second;
    if (entry.schedule->sweep == sweep && entry.schedule->tiling == tiling &&
        entry.schedule->shape == shape && std::ranges::equal(entry.masks, masks)) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return entry.schedule;
    }
  }
  return nullptr;
}

void ScheduleCache::add(Entry entry) {
  const std::scoped_lock lock(mutex_);
  const std::size_t hash = entry.hash;
  entries_.push_front(std::move(entry));
  by_hash_.emplace(hash, entries_.begin());
  if (entries_.size() <= capacity_) return;
  const auto oldest = std::prev(entries_.end());
  const auto [first, last] = by_hash_.equal_range(oldest->hash);
  by_hash_.erase(
      std::find_if(first, last, [&](const auto& known) { return known.second == oldest; }));
  entries_.erase(oldest);
}

ScheduleCache& schedule_cache() {
  static ScheduleCache cache;
  return cache;
}

}  // namespace perpend
