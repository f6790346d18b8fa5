#include "perpend/core/thread_pool.h"

#include <atomic>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    for (std::int64_t count : {0, 1, 7, 64, 1001}) {
      for (std::int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
        pool.parallel_for(count, grain, [&](Range chunk) {
          for (auto i = chunk.begin; i < chunk.end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        for (auto& times : seen) EXPECT_EQ(times.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, PassesTheExceptionOn) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [](Range chunk) {
                                   if (chunk.begin == 40) throw InvalidArgument("forty");
                                 }),
               InvalidArgument);
}

TEST(ThreadPool, RefusesNonsense) {
  EXPECT_THROW(ThreadPool(-1), InvalidArgument);
  EXPECT_THROW(ThreadPool(100000), InvalidArgument);
}

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t total_pages = 0;
  std::int64_t resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

TEST(ThreadPool, LeavesNoMemoryBehind) {
  const auto use_pools = [](int count) {
    for (int i = 0; i < count; ++i) ThreadPool(3).parallel_for(8, 1, [](Range) {});
  };
  use_pools(100);
  const std::int64_t before = resident_bytes();
  ASSERT_GT(before, 0);
  use_pools(2000);
  EXPECT_LT(resident_bytes() - before, 4 << 20);
}

}  // namespace
}  // namespace perpend
