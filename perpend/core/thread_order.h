#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace perpend {

// Tells ThreadSanitizer an order that a library without its instrumentation (oneTBB) keeps: what
// comes before release() on one thread comes before what follows acquire() on another. Costs
// nothing in other builds.
class ThreadOrder {
 public:
#if defined(__SANITIZE_THREAD__)
  void release() { __tsan_release(this); }
  void acquire() { __tsan_acquire(this); }
#else
  void release() {}
  void acquire() {}
#endif
};

}  // namespace perpend
