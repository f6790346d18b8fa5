#pragma once

namespace perpend {

// Tells ThreadSanitizer an order that a library without its instrumentation (oneTBB) keeps: what
// comes before release() on one thread comes before what follows acquire() on another. Does nothing
// in other builds.
class ThreadOrder {
 public:
  void release();
  void acquire();
};

}  // namespace perpend
