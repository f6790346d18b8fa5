#pragma once

#include <string_view>

#include "perpend/core/error.h"

namespace perpend {

// Whether a command that only plans is asked for the tiles of a GPU. Takes cpu and gpu, and what
// commands that run a model take by the same environment variable.
inline bool plans_for_gpu(std::string_view command, std::string_view device, bool by_default) {
  if (device.empty() || device == "auto") return by_default;
  if (device == "gpu" || device.starts_with("cuda")) return true;
  check(device == "cpu", concat(command, ": --device must be gpu or cpu (", device, ")"));
  return false;
}

}  // namespace perpend
