#include "perpend/ops/attention_call.h"

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "perpend/core/demand.h"
#include "perpend/kernels/table.h"
#include "perpend/ops/schedule_cache.h"

namespace perpend {
namespace {

bool is_ragged(const AttentionCall& call) { return static_cast<bool>(call.q_indptr); }

// Kernels want tokens before heads; ragged operands lie so already.
TensorView tokens_first(const TensorView& view) {
  if (view.num_axes() != 4) return view;
  TensorView swapped = view;
  std::swap(swapped.shape[1], swapped.shape[2]);
  std::swap(swapped.strides[1], swapped.strides[2]);
  return swapped;
}

void check_axes(const TensorView& view, std::string_view name, bool ragged) {
  const int axes = ragged ? 3 : 4;
  if (view.num_axes() == axes) return;
  throw InvalidArgument(
      concat("attention: ", name, " must be ",
             ragged ? "[tokens, heads, head_dim] with q_indptr and kv_indptr"
                    : "[batch, heads, length, head_dim], or ragged with q_indptr and kv_indptr",
             " (", view.shape, ")"));
}

// The lengths that an indptr gives; every token must belong to a sequence, or it would get no
// output.
std::vector<std::int64_t> lengths_of(const TensorView& indptr, std::string_view name,
                                     std::int64_t total) {
  if (indptr.dtype != DType::kI32 || indptr.num_axes() != 1 || !indptr.is_contiguous() ||
      indptr.size(0) < 1 || indptr.device.type != DeviceType::kCpu) {
    throw InvalidArgument(
        concat("attention: ", name, " must be dense i32 [batch + 1] on the cpu, found ", indptr));
  }
  const auto* values = indptr.as<const std::int32_t>();
  const std::int64_t num_sequences = indptr.size(0) - 1;
  if (values[0] != 0 || values[num_sequences] != total) {
    throw InvalidArgument(concat("attention: ", name, " must go from 0 to its ", total,
                                 " tokens, found ", values[0], " to ", values[num_sequences]));
  }
  std::vector<std::int64_t> lengths;
  for (std::int64_t s = 0; s < num_sequences; ++s) {
    if (values[s + 1] < values[s]) {
      throw InvalidArgument(concat("attention: ", name, " decreases at sequence ", s, " (",
                                   values[s], " to ", values[s + 1], ")"));
    }
    lengths.push_back(values[s + 1] - values[s]);
  }
  return lengths;
}

std::vector<SequenceShape> dense_sequences(const AttentionCall& call) {
  check_eq(call.q.size(0), call.k.size(0), "attention: batch of q and of k differ");
  check_eq(call.k.size(2), call.v.size(2), "attention: lengths of k and v differ");
  return std::vector<SequenceShape>(static_cast<std::size_t>(call.q.size(0)),
                                    {call.q.size(2), call.k.size(2), 0});
}

std::vector<SequenceShape> ragged_sequences(const AttentionCall& call) {
  const auto q_lengths = lengths_of(call.q_indptr, "q_indptr", call.q.size(0));
  const auto kv_lengths = lengths_of(call.kv_indptr, "kv_indptr", call.k.size(0));
  check_eq(q_lengths.size(), kv_lengths.size(),
           "attention: sequences of q_indptr and of kv_indptr differ");
  std::vector<SequenceShape> sequences;
  for (std::size_t s = 0; s < q_lengths.size(); ++s) {
    sequences.push_back({q_lengths[s], kv_lengths[s], 0});
  }
  return sequences;
}

void set_offsets(const std::vector<std::int64_t>& offsets, std::vector<SequenceShape>& sequences) {
  if (offsets.empty()) return;
  if (offsets.size() != 1 && offsets.size() != sequences.size()) {
    throw InvalidArgument(concat("attention: q_offset must be one number or one for each of ",
                                 sequences.size(), " sequences (", offsets.size(), ")"));
  }
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    sequences[s].q_offset = offsets[offsets.size() == 1 ? 0 : s];
  }
}

// Host threads of a given number, made once; they sleep between calls.
ThreadPool& threads_of(int num_threads) {
  static std::mutex mutex;
  static std::map<int, ThreadPool> pools;
  const std::scoped_lock lock(mutex);
  return pools.try_emplace(num_threads, num_threads).first->second;
}

// Working memory of the calling thread: grown by the largest call, so that a loop allocates once.
AlignedBuffer& scratch() {
  thread_local AlignedBuffer buffer;
  return buffer;
}

// The plan of a call for one sweep.
std::shared_ptr<const Schedule> plan(const AttentionCall& call, std::span<const Mask> masks,
                                     Sweep sweep) {
  const KernelTable& table = kernels_for(call.q.device);
  const auto tiling = require(table.attention.tiling, "attention", table);
  const AttentionShape shape = shape_of(call);
  const AttentionSpec spec = spec_of(call);
  check_supported(spec, call.q.device);
  return schedule_cache().get(masks, shape, tiling(spec, sweep), sweep);
}

}  // namespace

AttentionShape shape_of(const AttentionCall& call) {
  check(static_cast<bool>(call.q_indptr) == static_cast<bool>(call.kv_indptr),
        "attention: q_indptr and kv_indptr must be given together");
  const bool ragged = is_ragged(call);
  check_axes(call.q, "q", ragged);
  check_axes(call.k, "k", ragged);
  check_axes(call.v, "v", ragged);
  AttentionShape shape;
  shape.num_q_heads = static_cast<int>(call.q.size(1));
  shape.num_kv_heads = static_cast<int>(call.k.size(1));
  demand(shape.num_kv_heads > 0 && shape.num_q_heads % shape.num_kv_heads == 0,
         "attention: heads of q must be a multiple of those of k (", shape.num_q_heads, " vs ",
         shape.num_kv_heads, ")");
  shape.sequences = ragged ? ragged_sequences(call) : dense_sequences(call);
  set_offsets(call.q_offsets, shape.sequences);
  return shape;
}

AttentionSpec spec_of(const AttentionCall& call) {
  return {.q_dtype = call.q.dtype,
          .kv_dtype = call.k.dtype,
          .head_dim = call.q.size(call.q.num_axes() - 1)};
}

AttentionArgs kernel_args(const AttentionCall& call, const TensorView& o, const TensorView& lse) {
  return {.q = tokens_first(call.q),
          .k = tokens_first(call.k),
          .v = tokens_first(call.v),
          .o = tokens_first(o),
          .lse = lse,
          .q_indptr = call.q_indptr,
          .kv_indptr = call.kv_indptr,
          .scale = call.scale,
          .score = call.score,
          .scratch = &scratch()};
}

Stream stream_of(const AttentionCall& call) {
  if (call.q.device.type == DeviceType::kCuda) return call.gpu;
  return {.threads = &threads_of(call.num_threads)};
}

AttentionGradArgs kernel_args(const AttentionCall& call, const AttentionCallGrads& grads) {
  return {.forward = kernel_args(call, grads.o, grads.lse),
          .d_o = tokens_first(grads.d_o),
          .d_lse = grads.d_lse,
          .dq = tokens_first(grads.dq),
          .dk = tokens_first(grads.dk),
          .dv = tokens_first(grads.dv),
          .deterministic = grads.deterministic};
}

void check_can_copy(std::string_view name, Device device, Stream gpu) {
  const auto is_capturing = kernels_for(device).is_capturing;
  if (is_capturing == nullptr || !is_capturing(gpu)) return;
  throw InvalidArgument(concat("attention: ", name, " is on ", device,
                               ", and the host can not wait for its values while a graph is being "
                               "captured; give it on the cpu"));
}

void run_attention(const AttentionCall& call, std::span<const Mask> masks, const TensorView& o,
                   const TensorView& lse) {
  const auto rows = plan(call, masks, Sweep::kRows);
  attention_forward(kernel_args(call, o, lse), *rows, stream_of(call));
}

void run_attention_backward(const AttentionCall& call, std::span<const Mask> masks,
                            const AttentionCallGrads& grads) {
  const auto rows = plan(call, masks, Sweep::kRows);
  const auto columns = plan(call, masks, Sweep::kColumns);
  attention_backward(kernel_args(call, grads), *rows, *columns, stream_of(call));
}

}  // namespace perpend
