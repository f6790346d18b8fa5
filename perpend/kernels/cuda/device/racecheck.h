#pragma once

namespace perpend::device {

// A build for compute-sanitizer's racecheck (CMake's PERPEND_RACECHECK). The tool knows a barrier's
// order only for the thread that arrives: not for other lanes, which __syncwarp puts before it (the
// assembler drops that where a warp is together), nor for copies by cp.async that arrive by
// themselves. There each thread arrives for itself, and copies with loads and stores.
#ifdef PERPEND_RACECHECK
constexpr bool kForRacecheck = true;
#else
constexpr bool kForRacecheck = false;
#endif

}  // namespace perpend::device
