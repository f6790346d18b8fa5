#include "perpend/core/thread_order.h"

#if defined(__SANITIZE_THREAD__)

#include <sanitizer/tsan_interface.h>

namespace perpend {

void ThreadOrder::release() { __tsan_release(this); }
void ThreadOrder::acquire() { __tsan_acquire(this); }

}  // namespace perpend

#else

namespace perpend {

void ThreadOrder::release() {}
void ThreadOrder::acquire() {}

}  // namespace perpend

#endif
