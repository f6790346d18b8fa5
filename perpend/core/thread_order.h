#pragma once

namespace perpend {

// Tells ThreadSanitizer an order that a library without its instrumentation (oneTBB) keeps: what
// comes before release(point) on one thread comes before what follows acquire(point) on another.
// Does nothing in other builds.
struct OrderPoint {};

void release(OrderPoint& point);
void acquire(OrderPoint& point);

}  // namespace perpend
