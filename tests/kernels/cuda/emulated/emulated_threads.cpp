#include "tests/kernels/cuda/emulated/emulated_threads.h"

#include <array>
#include <numeric>
#include <utility>

#include "perpend/core/concat.h"

namespace perpend::device {
namespace {

// makecontext() passes no pointer.
EmulatedThreads* running = nullptr;

}  // namespace

EmulatedThreads::EmulatedThreads(int count, std::uint64_t seed)
    : threads_(static_cast<std::size_t>(count)),
      stacks_(std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(count) *
                                                          kStackBytes)),
      random_(seed) {}

bool EmulatedThreads::go_on() {
  running = this;
  const bool has_worked = work_beside(false);
  if (take_turns(false) || has_worked) return true;
  // One of the two, so that either may stay far behind the other.
  return toss() ? work_beside(true) || slow_threads_go_on()
                : slow_threads_go_on() || work_beside(true);
}

void EmulatedThreads::finish_work() {
  while (work_beside(true)) {
  }
}

bool EmulatedThreads::slow_threads_go_on() {
  if (!take_turns(true)) return false;
  choose_slow_threads();
  return true;
}

void EmulatedThreads::choose_slow_threads() {
  // Every other thread, some or hardly one.
  constexpr std::array<std::uint64_t, 3> kOneIn = {2, 16, 300};
  const std::uint64_t one_in = kOneIn[random_.next_below(kOneIn.size())];
  for (Thread& thread : threads_) thread.is_slow = random_.next_below(one_in) == 0;
}

void EmulatedThreads::begin(const FunctionRef<void()>& body) {
  body_ = &body;
  num_returned_ = 0;
  std::byte* stack = stacks_.get();
  for (Thread& thread : threads_) {
    thread = {};
    make_context(thread.context, stack);
    stack += kStackBytes;
  }
  choose_slow_threads();
}

void EmulatedThreads::make_context(ucontext_t& context, std::byte* stack) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = &scheduler_;
  makecontext(&context, &EmulatedThreads::enter, 0);
  // Nobody needs the size from here on; AddressSanitizer would clear what it knows of so much at
  // each turn.
  context.uc_stack.ss_size = 0;
}

void EmulatedThreads::enter() {
  EmulatedThreads& self = *running;
  try {
    (*self.body_)();
  } catch (...) {
    self.thrown_ = std::current_exception();
  }
  self.threads_[static_cast<std::size_t>(self.current_)].has_returned = true;
  ++self.num_returned_;
}

void EmulatedThreads::wait_until(Awaited what, FunctionRef<bool()> is_over) {
  if (is_over()) return;
  Thread& thread = threads_[static_cast<std::size_t>(current_)];
  thread.what = what;
  thread.is_over = &is_over;
  swapcontext(&thread.context, &scheduler_);
  thread.is_over = nullptr;
}

bool EmulatedThreads::take_turns(bool also_slow) {
  // i -> first + i * step visits all of them in one of many orders.
  const auto number = threads_.size();
  const std::size_t first = random_.next_below(number);
  std::size_t step = 1 + random_.next_below(number);
  while (std::gcd(step, number) != 1) ++step;
  bool has_moved = false;
  for (std::size_t i = 0; i < number; ++i) {
    const std::size_t index = (first + i * step) % number;
    Thread& thread = threads_[index];
    if (thread.has_returned || (thread.is_slow && !also_slow)) continue;
    if (thread.is_over != nullptr && !(*thread.is_over)()) continue;
    has_moved = true;
    current_ = static_cast<int>(index);
    swapcontext(&scheduler_, &thread.context);
    if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
  }
  return has_moved;
}

bool EmulatedThreads::work_beside(bool also_slow) {
  Work now = std::exchange(work_, {});
  if (also_slow) {
    for (std::function<void()>& work : std::exchange(slow_work_, {}))
      now.push_back(std::move(work));
  }
  for (const std::function<void()>& work : now) work();
  return !now.empty();
}

std::string EmulatedThreads::what_threads_wait_for() const {
  std::string all;
  for (std::size_t first = 0; first < threads_.size();) {
    const auto text = [&](std::size_t i) {
      const Awaited& what = threads_[i].what;
      return threads_[i].has_returned ? std::string() : concat(what.what, " ", what.index);
    };
    std::size_t last = first;
    while (last + 1 < threads_.size() && text(last + 1) == text(first)) ++last;
    if (!text(first).empty()) {
      all += concat("\n  ", first, " to ", last, ": ", text(first));
    }
    first = last + 1;
  }
  return all;
}

}  // namespace perpend::device
