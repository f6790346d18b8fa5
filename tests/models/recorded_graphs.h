#pragma once

// Captured graphs and replaceable plans without a GPU: a graph runs again what it was given to
// record, and a plan keeps a schedule for the kernels of the CPU.

#include <memory>
#include <optional>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"

namespace perpend {

class RecordedGraph final : public CapturedGraph {
 public:
  explicit RecordedGraph(FunctionRef<void()> launches) : launches_(launches) {}
  void run(Stream /*stream*/) const override { launches_(); }

 private:
  FunctionRef<void()> launches_;
};

class RecordedPlan final : public AttentionPlan {
 public:
  explicit RecordedPlan(const PlanCapacity& room) : room_(room) {}

  void update(const Schedule& schedule, Stream /*stream*/) override {
    check(std::ssize(schedule.entries) <= room_.steps, "plan: no room");
    schedule_ = schedule;
  }
  const AttentionShape& shape() const override { return schedule_->shape; }
  void forward(const AttentionArgs& args, Stream stream) const override {
    attention_forward(args, *schedule_, stream);
  }

 private:
  PlanCapacity room_;
  std::optional<Schedule> schedule_;
};

// The kernels of the CPU with both. What is captured must stay where it is.
inline const KernelTable& recording_kernels() {
  static const KernelTable table = [] {
    KernelTable kernels = cpu_kernels();
    kernels.capture = [](Device, Stream, FunctionRef<void()> launches) {
      return std::unique_ptr<CapturedGraph>(std::make_unique<RecordedGraph>(launches));
    };
    kernels.attention.plan_capacity = [](const AttentionSpec&, const Schedule& schedule) {
      return PlanCapacity{.items = std::ssize(schedule.items),
                          .steps = std::ssize(schedule.entries)};
    };
    kernels.attention.make_plan = [](const AttentionSpec&, const PlanCapacity& room, Device) {
      return std::unique_ptr<AttentionPlan>(std::make_unique<RecordedPlan>(room));
    };
    return kernels;
  }();
  return table;
}

}  // namespace perpend
