#include "perpend/core/thread_pool.h"

#include <atomic>
#include <vector>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace perpend
