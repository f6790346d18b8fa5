#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "perpend/mask/mask.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// Compiled schedules, least recently used first to go: the layers of a model and the calls of a
// loop ask for the same few again and again. Safe to use from several threads.
class ScheduleCache {
 public:
  explicit ScheduleCache(std::size_t capacity = 64) : capacity_(capacity) {}

  // What compile() of the same arguments returns, and throws.
  std::shared_ptr<const Schedule> get(std::span<const Mask> masks, const AttentionShape& shape,
                                      const Tiling& tiling, Sweep sweep = Sweep::kRows);
  std::shared_ptr<const Schedule> get(const Mask& mask, const AttentionShape& shape,
                                      const Tiling& tiling, Sweep sweep = Sweep::kRows) {
    return get(std::span(&mask, 1), shape, tiling, sweep);
  }

 private:
  struct Entry {
    std::size_t hash = 0;
    std::vector<Mask> masks;
    std::shared_ptr<const Schedule>
        schedule;  // its shape, tiling and sweep are the rest of the key
  };
  using Entries = std::list<Entry>;

  // The entry of this key, moved to the front; null when there is none.
  std::shared_ptr<const Schedule> find(std::size_t hash, std::span<const Mask> masks,
                                       const AttentionShape& shape, const Tiling& tiling,
                                       Sweep sweep);
  void add(Entry entry);

  std::size_t capacity_;
  std::mutex mutex_;
  Entries entries_;  // most recently used first
  std::unordered_multimap<std::size_t, Entries::iterator> by_hash_;
};

// The one cache of a process, which models and operators share.
ScheduleCache& schedule_cache();

}  // namespace perpend
