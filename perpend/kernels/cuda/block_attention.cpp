#include "perpend/kernels/cuda/block_attention.h"

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/attention_rows.h"
#include "perpend/kernels/cuda/block_list_image.h"
#include "perpend/kernels/cuda/block_list_launch.h"
#include "perpend/kernels/cuda/device_memory.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "block attention";

// What of a plan lies on the device: what was prepared, and behind it what every update() writes.
class BlockMemory {
 public:
  // On the current device.
  explicit BlockMemory(const BlockListImage& image) {
    const device::BlockGeometry& g = image.geometry;
    ArrayLayout prepared;
    const std::size_t flags = prepared.add(image.flags);
    const std::size_t cut_flags = prepared.add(image.cut_flags);
    const std::size_t bitmaps = prepared.add(image.bitmaps);
    std::size_t size = prepared.bytes().size();
    const auto reserve = [&](std::int64_t count, std::size_t bytes) {
      const std::size_t at = size;
      size += static_cast<std::size_t>(round_up(count * static_cast<std::int64_t>(bytes),
                                                std::int64_t{ArrayLayout::kAlignment}));
      return at;
    };
    const std::size_t counts = reserve(g.num_items, sizeof(device::StepCounts));
    const std::size_t items = reserve(g.num_items, sizeof(device::Item));
    const std::size_t steps =
        reserve(std::int64_t{g.num_items} * g.steps_per_item, sizeof(device::Step));
    const std::size_t sub_tiles =
        reserve(std::int64_t{g.num_items} * g.units_per_item, sizeof(std::int32_t));
    memory_ = upload(prepared.bytes(), size - prepared.bytes().size());
    params_.geometry = g;
    params_.flags = at<const std::uint32_t>(flags);
    params_.cut_flags = at<const std::uint32_t>(cut_flags);
    params_.counts = at<device::StepCounts>(counts);
    params_.steps = at<device::Step>(steps);
    params_.sub_tiles = at<std::int32_t>(sub_tiles);
    params_.items = at<device::Item>(items);
    params_.warps_per_cta = planning_warps(g);
    lists_ = {params_.items, params_.steps, params_.sub_tiles, at<const std::uint32_t>(bitmaps),
              g.num_items,   g.group_size,  image.box_rows};
  }

  // Without the lists.
  const device::BlockListParams& params() const { return params_; }
  const device::Lists& lists() const { return lists_; }

 private:
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

  DeviceMemory memory_;
  device::BlockListParams params_{};
  device::Lists lists_{};
};

void check_lists(const BlockAttentionSpec& spec, Device device, const TensorView& view,
                 std::string_view name, const Dims& shape) {
  demand(view.dtype == DType::kI32 && view.shape == shape, kWhat, ": ", name, " must be i32 ",
         shape, ", found ", view);
  demand_eq(view.device, device, kWhat, ": devices of ", name, " and of the plan differ");
  const int last = view.num_axes() - 1;
  demand(last < 3 || view.stride(last) == 1 || spec.max_blocks <= 1, kWhat, ": the last axis of ",
         name, " must be contiguous");
}

device::ListStrides list_strides(const TensorView& view) {
  if (!view) return {};
  return {view.stride(0), view.stride(1), view.stride(2)};
}

class CudaBlockAttentionPlan : public BlockAttentionPlan {
 public:
  // On the current device.
  CudaBlockAttentionPlan(const BlockAttentionSpec& spec, const BlockListImage& image, Device device)
      : spec_(spec),
        shape_(spec.shape()),
        device_(device),
        memory_(image),
        rows_(memory_.lists(), {.skips_parts = image.skips_parts,
                                .has_packed = image.geometry.is_packed,
                                .has_separate = !image.geometry.is_packed}) {}

  const BlockAttentionSpec& spec() const override { return spec_; }
  const AttentionShape& shape() const override { return shape_; }

  void update(const TensorView& block_indices, const TensorView& num_blocks,
              Stream stream) override {
    const Dims lists = {spec_.batch, spec_.num_list_heads, spec_.num_q_blocks()};
    check_lists(spec_, device_, block_indices, "block_indices",
                {lists[0], lists[1], lists[2], spec_.max_blocks});
    if (num_blocks) check_lists(spec_, device_, num_blocks, "num_blocks", lists);
    is_updated_ = true;
    device::BlockListParams params = memory_.params();
    if (params.geometry.num_items == 0) return;
    params.block_indices = block_indices.as<const std::int32_t>();
    params.num_blocks = num_blocks ? num_blocks.as<const std::int32_t>() : nullptr;
    params.index_strides = list_strides(block_indices);
    params.count_strides = list_strides(num_blocks);
    const Launch launch(kWhat, device_, stream);
    launch_block_lists(params, launch.stream());
    launch.check_launched();
  }

  void forward(const AttentionArgs& args, Stream stream) const override {
    check_slopes(args.score.alibi_slopes);
    demand(is_updated_, kWhat, ": no lists were given yet");
    demand_eq(args.q.device, device_, kWhat, ": devices of q and of the plan differ");
    demand(args.q.dtype == spec_.attention.q_dtype && head_dim_of(args) == spec_.attention.head_dim,
           kWhat, ": operands are not those that the plan was made for");
    demand(spec_.changes_scores || !changes_scores(scores_of(args)), kWhat,
           ": the plan was made without changes_scores");
    if (rows_.lists().num_items == 0) return;
    const Launch launch(kWhat, device_, stream);
    launch_rows(args, rows_, launch);
    launch.check_launched();
  }

 private:
  BlockAttentionSpec spec_;
  AttentionShape shape_;
  Device device_;
  BlockMemory memory_;
  DeviceSchedule rows_;
  bool is_updated_ = false;
};

}  // namespace

std::unique_ptr<BlockAttentionPlan> cuda_make_block_plan(const BlockAttentionSpec& spec,
                                                         Device device) {
  const BlockListImage image = make_block_list_image(spec);
  const Launch launch(kWhat, device, {});
  return std::make_unique<CudaBlockAttentionPlan>(spec, image, device);
}

}  // namespace perpend
