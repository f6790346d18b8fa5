#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "perpend/schedule/schedule.h"

namespace perpend {

// A schedule as bytes (little-endian, with a version), so that a plan made once can be kept beside
// a model or sent to another process.
std::vector<std::byte> serialize(const Schedule& schedule);

// The schedule of such bytes. Throws InvalidArgument when they are cut short, of another version or
// kind, or hold what check_form() refuses: kernels may run whatever this returns.
Schedule deserialize_schedule(std::span<const std::byte> bytes);

}  // namespace perpend
