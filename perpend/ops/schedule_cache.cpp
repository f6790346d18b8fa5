#include "perpend/ops/schedule_cache.h"

#include <algorithm>

namespace perpend {

std::shared_ptr<const Schedule> ScheduleCache::get(const Mask& mask, const AttentionShape& shape,
                                                   const Tiling& tiling) {
  const std::scoped_lock lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.tiling == tiling && entry.schedule->shape == shape && entry.mask == mask;
  });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return found->schedule;
  }
  entries_.push_front({mask, tiling, std::make_shared<Schedule>(compile(mask, shape, tiling))});
  if (entries_.size() > capacity_) entries_.pop_back();
  return entries_.front().schedule;
}

}  // namespace perpend
