#include "perpend/kernels/attention_plan.h"

#include <array>
#include <optional>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/attention.h"
#include "perpend/kernels/cuda/attention_decode.h"
#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/capture.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/pinned_memory.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention plan";

void demand_not_captured(cudaStream_t stream) {
  demand(!is_capturing(stream),
         "attention plan: update() must not be captured; call it before the graph is launched");
}

// Memory of a GPU: the lists, the counter of launches, the workspace.
class CudaAttentionPlan : public AttentionPlan {
 public:
  // On the current device.
  CudaAttentionPlan(const AttentionSpec& spec, const PlanCapacity& capacity, Device device)
      : spec_(spec),
        capacity_(capacity),
        device_(device),
        layout_(capacity, device::keys_of_step(head_dim())),
        counter_at_(layout_.num_bytes()),
        workspace_at_(counter_at_ + ArrayLayout::kAlignment),
        memory_(upload(std::vector<std::byte>(workspace_at_),
                       workspace_bytes(capacity.split_rows, spec.head_dim))),
        staging_{PinnedMemory(layout_.num_bytes()), PinnedMemory(layout_.num_bytes())} {}

  void update(const Schedule& schedule, Stream stream) override {
    check_schedule(schedule);
    image_ = make_decode_image(schedule, head_dim(), std::move(image_));
    const Launch launch(kWhat, device_, stream);
    demand_not_captured(launch.stream());
    PinnedMemory& staging = staging_[next_];
    staging.wait();
    const std::size_t used = layout_.write(image_, staging.data());
    cuda_check(cudaMemcpyAsync(memory_.data(), staging.data(), used, cudaMemcpyHostToDevice,
                               launch.stream()),
               kWhat);
    staging.use_until_now(launch.stream());
    next_ = (next_ + 1) % staging_.size();
    shape_ = schedule.shape;
  }

  const AttentionShape& shape() const override {
    demand(shape_.has_value(), "attention plan: no schedule was given yet");
    return *shape_;
  }

  void forward(const AttentionArgs& args, Stream stream) const override {
    check_slopes(args.score.alibi_slopes);
    demand_eq(args.q.device, device_, "attention plan: devices of q and of the plan differ");
    demand(args.q.dtype == spec_.q_dtype && head_dim_of(args) == spec_.head_dim &&
               static_cast<bool>(args.page_table) == spec_.paged,
           "attention plan: operands are not those that the plan was made for");
    if (!decode_takes(args)) {
      throw Unsupported(
          "attention plan: k and v need rows of whole 16-byte chunks, and pages of a multiple of "
          "16 keys");
    }
    const Launch launch("attention", device_, stream);
    launch_decode(
        args,
        {layout_.lists_at(memory_.data(), shape().group_size()),
         reinterpret_cast<unsigned*>(memory_.data() + counter_at_),
         split_rows_at(memory_.data() + workspace_at_, capacity_.split_rows, spec_.head_dim)},
        launch);
    launch.check_launched();
  }

 private:
  int head_dim() const { return static_cast<int>(spec_.head_dim); }

  void check_schedule(const Schedule& schedule) const {
    demand(!spec_.paged || !schedule.tiling.any_start,
           "attention plan: the schedule was compiled without the tiling for paged keys");
    if (!shape_) return;
    demand(schedule.shape.num_q_heads == shape_->num_q_heads &&
               schedule.shape.num_kv_heads == shape_->num_kv_heads,
           "attention plan: heads of the schedule and of the one before differ (",
           schedule.shape.num_q_heads, "/", schedule.shape.num_kv_heads, " vs ",
           shape_->num_q_heads, "/", shape_->num_kv_heads, ")");
  }

  AttentionSpec spec_;
  PlanCapacity capacity_;
  Device device_;
  DecodeLayout layout_;
  std::size_t counter_at_;
  std::size_t workspace_at_;
  DeviceMemory memory_;
  DecodeImage image_;  // of the last schedule: its memory is used again
  // In turns, so that one is written while the copy of the other is still under way.
  std::array<PinnedMemory, 2> staging_;
  std::size_t next_ = 0;
  std::optional<AttentionShape> shape_;
};

}  // namespace

PlanCapacity cuda_plan_capacity(const AttentionSpec& spec, const Schedule& schedule) {
  return decode_capacity(schedule, static_cast<int>(spec.head_dim));
}

bool cuda_has_plans(Device device) {
  const Launch launch(kWhat, device, {});
  return check_is_hopper(device.index);
}

std::unique_ptr<AttentionPlan> cuda_make_plan(const AttentionSpec& spec,
                                              const PlanCapacity& capacity, Device device) {
  demand(capacity.items > 0 && capacity.steps >= 0 && capacity.sums >= 0 &&
             capacity.sub_tiles >= 0 && capacity.bitmaps >= 0 && capacity.split_rows >= 0,
         "attention plan: a capacity must have room for an item");
  const Launch launch(kWhat, device, {});
  if (!cuda_has_plans(device)) {
    throw Unsupported("attention plan: needs a GPU of compute capability 9.0");
  }
  return std::make_unique<CudaAttentionPlan>(spec, capacity, device);
}

}  // namespace perpend
