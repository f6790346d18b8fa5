#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>

#include "perpend/mask/mask.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// Compiled schedules, least recently used first to go: the layers of a model and the calls of a
// loop ask for the same few again and again. Safe to use from several threads.
class ScheduleCache {
 public:
  explicit ScheduleCache(std::size_t capacity = 64) : capacity_(capacity) {}

  std::shared_ptr<const Schedule> get(const Mask& mask, const AttentionShape& shape,
                                      const Tiling& tiling);

 private:
  struct Entry {
    Mask mask;
    Tiling tiling;
    std::shared_ptr<const Schedule> schedule;  // its shape is the rest of the key
  };

  std::size_t capacity_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
};

}  // namespace perpend
