#include <array>
#include <vector>

#include "perpend/kernels/cuda/attention.h"
#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/attention_rows.h"
#include "perpend/kernels/cuda/backward_launch.h"
#include "perpend/kernels/cuda/backward_preparation.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/device/gradient_preparation.h"
#include "perpend/kernels/cuda/device/hopper_gradient_params.h"
#include "perpend/kernels/cuda/device/portable_gradient_params.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/cuda/launchers.h"
#include "perpend/kernels/cuda/stream_memory.h"
#include "perpend/kernels/cuda/tensor_map.h"

namespace perpend {
namespace {

using device::ColumnPassParams;
using device::FusedPassParams;
using device::GradientParams;
using device::HopperGradientParams;
using device::OrderedPassParams;
using device::PortableGradientParams;
using device::RowPassParams;

constexpr std::int64_t kHopperHeadDim = 128;  // the accumulators of more would not fit
constexpr std::int64_t kNarrowHeadDim = 32;   // to which there is no fused pass

std::int64_t tokens_of(const TensorView& view) { return view.size(view.num_axes() - 3); }

// A call on the current device: its operands as the kernels take them.
class BackwardCall {
 public:
  BackwardCall(const AttentionGradArgs& args, const AttentionShape& shape, const DeviceRows& rows,
               const DeviceKeys& keys, const Launch& launch)
      : args_(args),
        launch_(launch),
        shape_(shape),
        stream_(launch.stream()),
        by_rows_(rows),
        by_keys_(keys),
        on_hopper_(check_is_hopper(args.forward.q.device.index) && head_dim() <= kHopperHeadDim &&
                   tokens_of(args.forward.q) > 0 && tokens_of(args.forward.k) > 0),
        statistics_(statistics_bytes(shape), launch),
        queries_{taken(args.forward.q), taken(args.d_o)},
        keys_{taken(args.forward.k), taken(args.forward.v)},
        common_(common(shape)) {}

  void run() {
    prepare();
    const RowPassParams by_rows{by_rows_.lists, output(args_.dq)};
    const ColumnPassParams by_columns{by_keys_.lists, output(args_.dk), output(args_.dv)};
    if (is_fused()) {
      run_fused(by_columns);
    } else if (on_hopper_) {
      run_hopper(by_rows, queries_, keys_, by_rows_.counters->for_stream(stream_));
      run_hopper(by_columns, keys_, queries_, by_keys_.counters->for_stream(stream_));
    } else {
      run_portable(by_rows, queries_, keys_);
      run_portable(by_columns, keys_, queries_);
    }
  }

 private:
  using Operands = std::array<TensorView, 2>;

  int head_dim() const { return static_cast<int>(head_dim_of(args_.forward)); }
  bool is_f16() const { return args_.forward.q.dtype == DType::kF16; }

  bool is_changed() const {
    return common_.scores.soft_cap != 0 || common_.scores.alibi_slopes != nullptr;
  }

  bool is_in_turns() const { return args_.deterministic && by_keys_.turns != nullptr; }
  bool is_fused() const {
    const bool may_add = !args_.deterministic || is_in_turns();
    return on_hopper_ && may_add && !is_changed() && head_dim() > kNarrowHeadDim;
  }

  static std::int64_t num_queries(const AttentionShape& shape) {
    std::int64_t queries = 0;
    for (const SequenceShape& sequence : shape.sequences) queries += sequence.q_len;
    return queries;
  }
  static std::int64_t statistics_rows(const AttentionShape& shape) {
    return device::statistics_row(static_cast<std::int64_t>(shape.sequences.size()),
                                  num_queries(shape));
  }
  static std::size_t statistics_bytes(const AttentionShape& shape) {
    return static_cast<std::size_t>(statistics_rows(shape) * shape.num_q_heads) * 2 * sizeof(float);
  }

  // The operand in 16 bits and, for the copy engine, in rows that it can load: itself or a copy.
  TensorView taken(const TensorView& view) {
    const bool is_narrow = size_of(view.dtype) == 2;
    if (is_narrow && (!on_hopper_ || can_map(box_view(view)))) return view;
    constexpr std::int64_t kChunk = 8;
    const BoxView box = box_view(view);
    const std::int64_t padded = round_up(box.head_dim, kChunk);
    const std::int64_t values = box.batch * box.tokens * box.heads * padded;
    copies_.emplace_back(static_cast<std::size_t>(values) * 2, launch_);
    const DType dtype = args_.forward.q.dtype;
    auto* to = reinterpret_cast<std::uint16_t*>(copies_.back().data());
    if (values > 0) {
      launch_repack({view.data, row_strides(view), to, box.batch, box.tokens,
                     static_cast<std::int32_t>(box.heads), static_cast<std::int32_t>(box.head_dim),
                     static_cast<std::int32_t>(padded)},
                    view.dtype, dtype, stream_);
    }
    Dims shape = view.shape;
    shape[shape.size() - 1] = padded;
    return TensorView::dense(to, dtype, shape, view.device);
  }

  GradientParams common(const AttentionShape& shape) const {
    const std::int64_t rows = statistics_rows(shape);
    auto* negative_lse = reinterpret_cast<float*>(statistics_.data());
    return {{negative_lse, negative_lse + rows * shape.num_q_heads, rows},
            scores_of(args_.forward),
            scale_of(args_.forward),
            head_dim(),
            static_cast<bool>(args_.forward.q_indptr),
            static_cast<bool>(args_.forward.kv_indptr)};
  }

  static device::GradientOutput output(const TensorView& view) {
    return {view.data, row_strides(view), view.dtype == DType::kF32, has_aligned_rows(view)};
  }

  void prepare() const {
    const AttentionArgs& forward = args_.forward;
    if (common_.statistics.rows == 0) return;
    constexpr std::int64_t kChunk = 8;
    const bool is_aligned =
        has_aligned_rows(forward.o) && has_aligned_rows(args_.d_o) && head_dim() % kChunk == 0;
    const std::int64_t num_heads = forward.q.size(forward.q.num_axes() - 2);
    launch_statistics(
        {forward.o.data, args_.d_o.data, forward.lse.as<const float>(),
         args_.d_lse ? args_.d_lse.as<const float>() : nullptr, row_strides(forward.o),
         row_strides(args_.d_o), lse_strides(forward.lse), lse_strides(args_.d_lse),
         by_keys_.q_indptr, by_keys_.num_sequences, static_cast<std::int32_t>(num_heads),
         head_dim(), common_.q_is_ragged, is_aligned, common_.statistics},
        forward.o.dtype, stream_);
  }

  // dq is summed in f32 beside dk and dv.
  void run_fused(const ColumnPassParams& by_columns) const {
    const std::int64_t rows = num_queries(shape_);
    const int columns = head_dim() <= 64 ? 64 : static_cast<int>(kHopperHeadDim);
    const auto num_heads = static_cast<std::size_t>(shape_.num_q_heads);
    const std::size_t sum_bytes =
        num_heads * static_cast<std::size_t>(rows * columns) * sizeof(float);
    const std::int64_t strips =
        device::QueryTurns::first_strip(std::ssize(shape_.sequences) + 1, rows);
    const std::size_t count_bytes = is_in_turns() ? num_heads * device::QuerySums::kPanels *
                                                        static_cast<std::size_t>(strips) *
                                                        sizeof(std::uint32_t)
                                                  : 0;
    const StreamMemory memory(sum_bytes + count_bytes, launch_);
    cuda_check(cudaMemsetAsync(memory.data(), 0, sum_bytes + count_bytes, stream_),
               "attention backward");
    const device::QuerySums sums{reinterpret_cast<float*>(memory.data()), rows};
    const FusedPassParams fused{by_columns, sums};
    unsigned* counter = by_keys_.counters->for_stream(stream_);
    if (is_in_turns()) {
      auto* done = reinterpret_cast<std::uint32_t*>(memory.data() + sum_bytes);
      OrderedPassParams ordered{fused, {by_keys_.turns, done, strips}};
      ordered.lists = by_keys_.lists_in_turns;
      run_hopper(ordered, keys_, queries_, counter);
    } else {
      run_hopper(fused, keys_, queries_, counter);
    }
    write_query_gradient(sums, columns);
  }
  void write_query_gradient(const device::QuerySums& sums, int columns) const {
    const std::int64_t q_len = common_.q_is_ragged ? sums.rows : tokens_of(args_.forward.q);
    launch_query_gradient({sums, output(args_.dq), common_.scale, q_len, shape_.num_q_heads,
                           head_dim(), columns / device::QuerySums::kPanels},
                          args_.dq.dtype, stream_);
  }

  template <class Pass>
  void run_hopper(const Pass& pass, const Operands& outer, const Operands& inner,
                  unsigned* counter) const {
    if (pass.lists.num_items == 0) return;
    constexpr bool kByRows = std::is_same_v<Pass, RowPassParams>;
    const int inner_rows = kByRows ? device::keys_of_step(head_dim()) : device::kGradientQueries;
    const int group_size = pass.lists.group_size;
    HopperGradientParams<Pass> params{{}, common_, pass, counter};
    for (std::size_t i = 0; i < 2; ++i) {
      const BoxView box = box_view(outer[i]);
      params.maps.outer_separate[i] = make_tensor_map(box, 1, device::kPartRows);
      if (kByRows && by_rows_.form.has_packed) {
        params.maps.outer_packed[i] =
            make_tensor_map(box, group_size, device::kPartRows / group_size);
      }
      params.maps.inner_step[i] = make_tensor_map(box_view(inner[i]), 1, inner_rows);
      params.maps.inner_box[i] = make_tensor_map(box_view(inner[i]), 1, pass.lists.box_rows);
    }
    const HopperGradientLaunch<Pass> launch{
        &params, pass.lists.num_items, num_multiprocessors(args_.forward.q.device.index), stream_};
    if constexpr (std::is_same_v<Pass, FusedPassParams>) {
      hopper_launcher<GradientVariant::kFused>()(launch);
    } else if constexpr (std::is_same_v<Pass, OrderedPassParams>) {
      hopper_launcher<GradientVariant::kOrdered>()(launch);
    } else {
      constexpr auto kPlain = kByRows ? GradientVariant::kRows : GradientVariant::kColumns;
      constexpr auto kChanged =
          kByRows ? GradientVariant::kRowsChanged : GradientVariant::kColumnsChanged;
      const auto launcher = is_changed() ? hopper_launcher<kChanged>() : hopper_launcher<kPlain>();
      launcher(launch);
    }
  }

  template <GradientVariant kVariant>
  Launcher<HopperGradientLaunch<GradientPass<kVariant>>> hopper_launcher() const {
    return is_f16() ? hopper_launcher<DType::kF16, kVariant>()
                    : hopper_launcher<DType::kBF16, kVariant>();
  }
  template <DType kType, GradientVariant kVariant>
  Launcher<HopperGradientLaunch<GradientPass<kVariant>>> hopper_launcher() const {
    using Built = ForDim<HopperGradientLaunch<GradientPass<kVariant>>>;
    constexpr Built k64 = {64, launch_hopper_gradient<kType, 64, kVariant>};
    constexpr Built k128 = {128, launch_hopper_gradient<kType, 128, kVariant>};
    if constexpr (kVariant == GradientVariant::kFused || kVariant == GradientVariant::kOrdered) {
      return at_least(std::array{k64, k128}, head_dim());
    } else {
      constexpr Built k32 = {32, launch_hopper_gradient<kType, 32, kVariant>};
      return at_least(std::array{k32, k64, k128}, head_dim());
    }
  }

  template <class Pass>
  void run_portable(const Pass& pass, const Operands& outer, const Operands& inner) const {
    if (pass.lists.num_items == 0) return;
    const PortableGradientParams<Pass> params{common_,
                                              pass,
                                              {row_source(outer[0]), row_source(outer[1])},
                                              {row_source(inner[0]), row_source(inner[1])}};
    const auto launcher =
        is_f16() ? portable_launcher<DType::kF16, Pass>() : portable_launcher<DType::kBF16, Pass>();
    launcher({&params, pass.lists.num_items, stream_});
  }
  template <DType kType, class Pass>
  Launcher<PortableGradientLaunch<Pass>> portable_launcher() const {
    constexpr std::array<ForDim<PortableGradientLaunch<Pass>>, 3> kBuilt = {{
        {64, launch_portable_gradient<kType, 64, Pass>},
        {128, launch_portable_gradient<kType, 128, Pass>},
        {256, launch_portable_gradient<kType, 256, Pass>},
    }};
    return at_least(kBuilt, head_dim());
  }

  const AttentionGradArgs& args_;
  const Launch& launch_;
  const AttentionShape& shape_;
  cudaStream_t stream_;
  const DeviceRows& by_rows_;
  const DeviceKeys& by_keys_;
  bool on_hopper_;
  StreamMemory statistics_;
  std::vector<StreamMemory> copies_;
  Operands queries_;
  Operands keys_;
  GradientParams common_;
};

}  // namespace

void cuda_attention_backward(const AttentionGradArgs& args, const Schedule& rows,
                             const Schedule& columns, Stream stream) {
  const TensorView& q = args.forward.q;
  check_slopes(args.forward.score.alibi_slopes);
  const auto head_dim = static_cast<int>(head_dim_of(args.forward));
  check_image_form(rows, head_dim, Sweep::kRows);
  check_image_form(columns, head_dim, Sweep::kColumns);
  const Launch launch("attention backward", q.device, stream);
  const ReadByLaunches on_device(device_schedule(rows, head_dim, q.device.index), launch.stream());
  const bool in_turns = args.deterministic && args.in_turns;
  const ReadByLaunches columns_there(device_columns(columns, head_dim, q.device.index, in_turns),
                                     launch.stream());
  launch_gradients(args, rows.shape, on_device->rows(), columns_there->keys(), launch);
  launch.check_launched();
}

void launch_gradients(const AttentionGradArgs& args, const AttentionShape& shape,
                      const DeviceRows& rows, const DeviceKeys& keys, const Launch& launch) {
  BackwardCall(args, shape, rows, keys, launch).run();
}

}  // namespace perpend
