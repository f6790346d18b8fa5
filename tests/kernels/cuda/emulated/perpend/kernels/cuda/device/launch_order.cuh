#pragma once

namespace perpend::device {

inline void let_next_launch_start() {}
inline void wait_for_launch_before() {}

}  // namespace perpend::device
