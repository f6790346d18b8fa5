#include <sanitizer/tsan_interface.h>

#include "perpend/core/thread_order.h"

namespace perpend {

void release(OrderPoint& point) { __tsan_release(&point); }
void acquire(OrderPoint& point) { __tsan_acquire(&point); }

}  // namespace perpend
