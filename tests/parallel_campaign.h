#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <string>

#include <gtest/gtest.h>

#include "perpend/core/concat.h"
#include "perpend/core/random.h"
#include "perpend/core/thread_pool.h"
#include "tests/campaign.h"

namespace perpend {

// Runs the cases of a campaign beside each other, each on one thread. faults(random, one_thread)
// makes a case and returns what it is and what is wrong with it, or nothing.
template <class Faults>
void expect_no_faults(const Campaign& campaign, ThreadPool& threads, Faults faults) {
  constexpr int kMostReported = 10;
  std::mutex mutex;
  int num_failed = 0;
  threads.parallel_for(static_cast<std::int64_t>(campaign.count), 1, [&](Range range) {
    ThreadPool one_thread(1);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const std::uint64_t index = campaign.first + static_cast<std::uint64_t>(i);
      Random random(campaign.seed, index);
      std::string found;
      try {
        found = faults(random, one_thread);
      } catch (const std::exception& error) {
        found = concat("throws ", error.what());
      }
      if (found.empty()) continue;
      const std::lock_guard lock(mutex);
      if (++num_failed > kMostReported) continue;
      ADD_FAILURE() << campaign.name(index) << ": " << found;
    }
  });
  EXPECT_EQ(num_failed, 0) << "cases failed";
}

}  // namespace perpend
