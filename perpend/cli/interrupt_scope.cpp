#include "perpend/cli/interrupt_scope.h"

#include <atomic>
#include <csignal>

namespace perpend {
namespace {

std::atomic<bool> pressed{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

}  // namespace

InterruptScope::InterruptScope() {
  pressed = false;
  previous_ = std::signal(SIGINT, [](int) { pressed = true; });
}

InterruptScope::~InterruptScope() { std::signal(SIGINT, previous_); }

bool InterruptScope::interrupted() { return pressed; }

}  // namespace perpend
