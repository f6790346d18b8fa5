#include "perpend/core/thread_order.h"

namespace perpend {

void release(OrderPoint& /*point*/) {}
void acquire(OrderPoint& /*point*/) {}

}  // namespace perpend
