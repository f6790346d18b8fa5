#include "perpend/kernels/cuda/block_attention.h"

#include <optional>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/attention_rows.h"
#include "perpend/kernels/cuda/block_list_launch.h"
#include "perpend/kernels/cuda/block_tables.h"
#include "perpend/kernels/cuda/capture.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/cuda/stream_memory.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "block attention";

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
  explicit CudaBlockAttentionPlan(std::shared_ptr<const CudaBlockTables> tables)
      : tables_(std::move(tables)),
        own_memory_(upload({}, tables_->plan_bytes() + ArrayLayout::kAlignment)),
        memory_(own_memory_.data()) {}
  CudaBlockAttentionPlan(std::shared_ptr<const CudaBlockTables> tables, const Launch& launch)
      : tables_(std::move(tables)) {
    keep_for_graph(launch.stream(), tables_);
    stream_memory_.emplace(tables_->plan_bytes(), launch);
    memory_ = stream_memory_->data();
  }

  const BlockAttentionSpec& spec() const override { return tables_->spec(); }
  const AttentionShape& shape() const override { return tables_->shape(); }

  void update(const TensorView& block_indices, const TensorView& num_blocks,
              Stream stream) override {
    const Dims lists = {spec().batch, spec().num_list_heads, spec().num_q_blocks()};
    check_lists(spec(), device(), block_indices, "block_indices",
                {lists[0], lists[1], lists[2], spec().max_blocks});
    if (num_blocks) check_lists(spec(), device(), num_blocks, "num_blocks", lists);
    is_updated_ = true;
    device::BlockListParams rows = tables_->row_params(memory_);
    device::BlockColumnParams columns = tables_->column_params(memory_);
    rows.lists = {block_indices.as<const std::int32_t>(),
                  num_blocks ? num_blocks.as<const std::int32_t>() : nullptr,
                  list_strides(block_indices), list_strides(num_blocks)};
    columns.lists = rows.lists;
    const Launch launch(kWhat, device(), stream);
    launch_block_lists({&rows, spec().gradients ? &columns : nullptr,
                        check_is_hopper(device().index), launch.stream()});
    launch.check_launched();
  }

  void forward(const AttentionArgs& args, Stream stream) const override {
    check_operands(args);
    if (!tables_->has_rows()) return;
    const Launch launch(kWhat, device(), stream);
    launch_rows(args, tables_->rows(memory_), launch);
    launch.check_launched();
  }

  void backward(const AttentionGradArgs& args, Stream stream) const override {
    check_operands(args.forward);
    if (!tables_->has_rows() && !tables_->has_columns()) return;
    const Launch launch(kWhat, device(), stream);
    launch_gradients(args, shape(), tables_->rows(memory_), tables_->keys(memory_), launch);
    launch.check_launched();
  }

 private:
  Device device() const { return tables_->device(); }

  void check_operands(const AttentionArgs& args) const {
    check_slopes(args.score.alibi_slopes);
    demand(is_updated_, kWhat, ": no lists were given yet");
    demand_eq(args.q.device, device(), kWhat, ": devices of q and of the plan differ");
    const AttentionSpec& planned = spec().attention;
    demand(args.q.dtype == planned.q_dtype && args.k.dtype == planned.kv_dtype &&
               head_dim_of(args) == planned.head_dim,
           kWhat, ": operands are not those that the plan was made for");
    demand(spec().changes_scores || !changes_scores(scores_of(args)), kWhat,
           ": the plan was made without changes_scores");
  }

  std::shared_ptr<const CudaBlockTables> tables_;
  DeviceMemory own_memory_;
  std::optional<StreamMemory> stream_memory_;
  std::byte* memory_ = nullptr;
  bool is_updated_ = false;
};

}  // namespace

std::shared_ptr<const BlockAttentionTables> cuda_make_block_tables(const BlockAttentionSpec& spec,
                                                                   Device device) {
  const Launch launch(kWhat, device, {});
  return std::make_shared<const CudaBlockTables>(spec, device);
}

std::unique_ptr<BlockAttentionPlan> cuda_make_block_plan(
    const std::shared_ptr<const BlockAttentionTables>& tables, const Stream* stream) {
  auto of_cuda = std::static_pointer_cast<const CudaBlockTables>(tables);
  const Launch launch(kWhat, tables->device(), stream == nullptr ? Stream{} : *stream);
  if (stream == nullptr) return std::make_unique<CudaBlockAttentionPlan>(std::move(of_cuda));
  return std::make_unique<CudaBlockAttentionPlan>(std::move(of_cuda), launch);
}

}  // namespace perpend
