#include "perpend/core/thread_pool.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <sched.h>

#include "perpend/core/error.h"
#include "perpend/core/thread_order.h"

namespace perpend {
namespace {

int resolve_num_threads(int num_threads) {
  if (num_threads < 0 || num_threads > 1024) {
    throw InvalidArgument(concat("threads: expected 0 (all cores) to 1024 (", num_threads, ")"));
  }
  return num_threads == 0 ? available_cores() : num_threads;
}

// Not on the stack: a chunk can only look there once it has acquired them.
OrderPoint start_of_chunks;
OrderPoint end_of_chunks;

// Arenas of pools that ended, for pools to come: oneTBB (seen in 2021.8) keeps some kilobytes of
// each arena that ever asked for workers, and looks for work in all of them.
class IdleArenas {
 public:
  std::unique_ptr<tbb::task_arena> take(int num_threads) {
    const std::lock_guard lock(mutex_);
    std::vector<std::unique_ptr<tbb::task_arena>>& idle = idle_[num_threads];
    if (idle.empty()) return std::make_unique<tbb::task_arena>(num_threads);
    std::unique_ptr<tbb::task_arena> arena = std::move(idle.back());
    idle.pop_back();
    return arena;
  }

  void give_back(int num_threads, std::unique_ptr<tbb::task_arena> arena) {
    const std::lock_guard lock(mutex_);
    idle_[num_threads].push_back(std::move(arena));
  }

 private:
  std::mutex mutex_;
  std::map<int, std::vector<std::unique_ptr<tbb::task_arena>>> idle_;
};

IdleArenas& idle_arenas() {
  static IdleArenas arenas;
  return arenas;
}

}  // namespace

struct ThreadPool::State {
  explicit State(int num_threads) : arena(idle_arenas().take(num_threads)) {}
  std::unique_ptr<tbb::task_arena> arena;
};

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(resolve_num_threads(num_threads)),
      state_(std::make_unique<State>(num_threads_)) {}

ThreadPool::~ThreadPool() { idle_arenas().give_back(num_threads_, std::move(state_->arena)); }

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              FunctionRef<void(Range)> body) {
  if (count <= 0) return;
  const std::int64_t chunk = grain > 0 ? grain : 1;
  const std::int64_t num_chunks = ceil_div(count, chunk);
  if (num_threads_ == 1 || num_chunks == 1) {
    body({0, count});
    return;
  }
  const auto run_chunk = [&](std::int64_t index) {
    acquire(start_of_chunks);
    body({index * chunk, std::min(count, (index + 1) * chunk)});
    release(end_of_chunks);
  };
  release(start_of_chunks);
  state_->arena->execute([&] {
    tbb::parallel_for(std::int64_t{0}, num_chunks, run_chunk, tbb::simple_partitioner{});
  });
  acquire(end_of_chunks);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace perpend
