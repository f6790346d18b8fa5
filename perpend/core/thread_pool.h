#pragma once

#include <cstdint>
#include <memory>

#include "perpend/core/function_ref.h"
#include "perpend/core/range.h"

namespace perpend {

// Host threads that kernels run on: an argument of every CPU kernel, never a global. Work is given
// as independent chunks whose results must not depend on which thread takes them, so that the
// number of threads never changes an answer.
class ThreadPool {
 public:
  // num_threads counts the calling thread; 0 means one for each core this process may use.
  // Throws InvalidArgument when negative or above 1024.
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body([begin, end)) on chunks of at most `grain` that together cover [0, count) once, and
  // returns when all are done. The first exception of a body is thrown again here.
  void parallel_for(std::int64_t count, std::int64_t grain, FunctionRef<void(Range)> body);

 private:
  struct State;
  int num_threads_;
  std::unique_ptr<State> state_;
};

// Cores that this process may run on (its affinity mask, not the machine's count); at least 1.
int available_cores();

}  // namespace perpend
