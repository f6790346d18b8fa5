#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

#include "perpend/core/function_ref.h"
#include "perpend/core/random.h"

namespace perpend::device {

// The threads of a CTA, which take turns on one thread of the CPU: each has a stack of its own and
// goes on until what it waits for is not there yet. Whose turn is next is random, and so is when
// the work is done that goes on beside the threads, such as copies; some threads and some of that
// work are slow: they go on only when nothing else can. A seed gives the same order in every run,
// also on a busy machine, and threads that can never go on are found instead of waited for.
class EmulatedThreads {
 public:
  // What a thread waits for, as reports name it.
  struct Awaited {
    const char* what;
    std::uint32_t index;
  };

  EmulatedThreads(int count, std::uint64_t seed);

  // Lets each thread run body(), which must live as long, when go_on() is called.
  void begin(const FunctionRef<void()>& body);
  // All that can be done now, or what can only be done when nothing else can; false when there was
  // nothing. Throws what a thread throws.
  bool go_on();
  bool have_returned() const { return num_returned_ == count(); }
  // What is left to be done by no thread, when all have returned.
  void finish_work();
  std::string what_threads_wait_for() const;

  int count() const { return static_cast<int>(threads_.size()); }

  // For the thread whose turn it is.
  int current() const { return current_; }
  void wait_until(Awaited what, FunctionRef<bool()> is_over);
  // Some work that no thread does: done at any time from now on, but done.
  void start(std::function<void()> work) {
    (toss() ? slow_work_ : work_).push_back(std::move(work));
  }
  bool toss() { return random_.next_below(2) == 0; }

 private:
  struct Thread {
    ucontext_t context{};
    Awaited what{};
    const FunctionRef<bool()>* is_over = nullptr;  // null: waits for nothing
    bool has_returned = false;
    bool is_slow = false;
  };
  using Work = std::vector<std::function<void()>>;

  static void enter();
  void make_context(ucontext_t& context, std::byte* stack);
  // Both do all that can be done now, or all but what is slow; false when there was nothing.
  bool take_turns(bool also_slow);
  bool work_beside(bool also_slow);
  bool slow_threads_go_on();
  void choose_slow_threads();

  static constexpr std::size_t kStackBytes = std::size_t{256} << 10;

  std::vector<Thread> threads_;
  std::unique_ptr<std::byte[]> stacks_;
  Work work_;
  Work slow_work_;
  Random random_;
  ucontext_t scheduler_{};
  const FunctionRef<void()>* body_ = nullptr;
  std::exception_ptr thrown_;
  int current_ = 0;
  int num_returned_ = 0;
};

}  // namespace perpend::device
