#pragma once

#include <cstdint>
#include <memory>

#include "perpend/core/device.h"
#include "perpend/core/stream.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

struct AttentionArgs;
struct AttentionSpec;

// How much a plan has room for.
struct PlanCapacity {
  std::int64_t items = 0;       // after long lists are cut
  std::int64_t sums = 0;        // of a few rows each, of items that are cut
  std::int64_t steps = 0;       // of all lists together
  std::int64_t sub_tiles = 0;   // of gathered steps
  std::int64_t bitmaps = 0;     // distinct partial tiles
  std::int64_t split_rows = 0;  // rows of items that were cut
};

// A schedule in the memory of a device that another one replaces without a change of place: a
// launch captured in a CUDA graph runs the schedule that is there when the graph does. For the
// steps of a decode loop: capture forward() once, then for each step update() with the schedule of
// the new lengths and launch the graph. One stream at a time; not safe to use from several threads.
class AttentionPlan {
 public:
  AttentionPlan() = default;
  virtual ~AttentionPlan() = default;
  AttentionPlan(const AttentionPlan&) = delete;
  AttentionPlan& operator=(const AttentionPlan&) = delete;

  // What runs on `stream` after this call uses `schedule`, whose heads must be those of the
  // schedules before. One asynchronous copy; waits on the host only for that of the call before the
  // last. Throws InvalidArgument where there is no room for it, where it was compiled without the
  // tiling of the plan's spec, and while `stream` is being captured; the plan is as before then.
  virtual void update(const Schedule& schedule, Stream stream) = 0;
  // Of the schedule that was last given.
  virtual const AttentionShape& shape() const = 0;
  // As attention_forward(), of whatever schedule is there when it runs: when this is captured, the
  // operands must be large enough for all that will come. Arguments are checked already. Allocates
  // nothing.
  virtual void forward(const AttentionArgs& args, Stream stream) const = 0;
};

// Room for `schedule` and for others of the same mask, compiled with the same options, whose
// sequences are not longer, and as many.
// Throws Unsupported when the device's kernels have no plans.
PlanCapacity plan_capacity(const AttentionSpec& spec, const Schedule& schedule, Device device);

// An empty plan on `device`. Throws Unsupported (no plans, or a spec that is not supported),
// OutOfMemory and DeviceError.
std::unique_ptr<AttentionPlan> make_attention_plan(const AttentionSpec& spec,
                                                   const PlanCapacity& capacity, Device device);

// As attention_forward() in attention.h. Throws InvalidArgument before the first update() and for
// arguments that do not fit the last one.
void attention_forward(const AttentionArgs& args, const AttentionPlan& plan, Stream stream);

}  // namespace perpend
