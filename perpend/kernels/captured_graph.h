#pragma once

#include "perpend/core/stream.h"

namespace perpend {

// Launches of a device, recorded once (KernelTable::capture). What they read and write must stay in
// its place for as long as they are run.
class CapturedGraph {
 public:
  CapturedGraph() = default;
  virtual ~CapturedGraph() = default;
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  // All launches, in their order, by one call. Asynchronous. Throws DeviceError.
  virtual void run(Stream stream) const = 0;
};

}  // namespace perpend
