// What the Python package asks of masks and plans without tensors of tokens; described in
// perpend/_native.pyi.
#include <algorithm>
#include <chrono>
#include <string>
#include <tuple>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "perpend/io/png.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/label.h"
#include "perpend/mask/retention.h"
#include "perpend/ops/mask_source.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/schedule/picture.h"

namespace nb = nanobind;

namespace perpend::python {
namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

TensorView view_of(const Array& array) {
  TensorView view;
  view.data = const_cast<void*>(array.data());  // views are not const; masks only read
  const bool is_i32 = array.dtype() == nb::dtype<std::int32_t>();
  check(is_i32 || array.dtype() == nb::dtype<std::int64_t>(),
        "mask: arrays must be int32 or int64");
  view.dtype = is_i32 ? DType::kI32 : DType::kI64;
  std::vector<std::int64_t> shape;
  for (std::size_t axis = 0; axis < array.ndim(); ++axis) {
    shape.push_back(static_cast<std::int64_t>(array.shape(axis)));
  }
  view.shape = Dims(shape);
  view.strides = contiguous_strides(view.shape);
  return view;
}

using Texts = std::vector<std::string>;
using Arrays = std::vector<Array>;
using Sequence = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // q_len, kv_len, q_offset
using Heads = std::tuple<int, int>;                                     // query, key/value

SequenceShape shape_of(const Sequence& sequence) {
  const auto [q_len, kv_len, q_offset] = sequence;
  return {q_len, kv_len, q_offset};
}

// The mask of one sequence with its names bound.
Mask mask_of(const std::string& text, const Texts& bindings, const Arrays& arrays,
             const SequenceShape& sequence) {
  MaskSource source{{text}, bindings, {}};
  for (const Array& array : arrays) source.arrays.push_back(view_of(array));
  return read_masks(source, {{sequence}}).front();
}

nb::bytes dense(const std::string& text, const Texts& bindings, const Arrays& arrays,
                const Sequence& sequence_given, const Heads& head) {
  constexpr std::int64_t kMaxPairs = std::int64_t{1} << 30;
  const SequenceShape sequence = shape_of(sequence_given);
  check(sequence.q_len >= 0 && sequence.kv_len >= 0 && sequence.q_offset >= 0 &&
            (sequence.kv_len == 0 || sequence.q_len <= kMaxPairs / sequence.kv_len),
        concat("dense: at most ", kMaxPairs, " pairs of no negative lengths (", sequence.q_len,
               " x ", sequence.kv_len, ")"));
  const BoundMask mask(mask_of(text, bindings, arrays, sequence),
                       {std::get<0>(head), std::get<1>(head)});
  std::string pairs;
  pairs.reserve(static_cast<std::size_t>(sequence.q_len * sequence.kv_len));
  for (std::int64_t q = 0; q < sequence.q_len; ++q) {
    for (std::int64_t k = 0; k < sequence.kv_len; k += 64) {
      const std::uint64_t word = mask.word(Sweep::kRows, sequence.q_offset + q, k);
      const std::int64_t count = std::min<std::int64_t>(64, sequence.kv_len - k);
      for (std::int64_t bit = 0; bit < count; ++bit) {
        pairs += static_cast<char>(word >> bit & 1U);
      }
    }
  }
  return nb::bytes(pairs.data(), pairs.size());
}

// A PNG, and the same for a terminal.
nb::tuple picture(const std::string& text, const Texts& bindings, const Arrays& arrays,
                  const Sequence& sequence_given, int max_pixels) {
  constexpr int kTextColumns = 64;
  const SequenceShape sequence = shape_of(sequence_given);
  const Mask mask = mask_of(text, bindings, arrays, sequence);
  const Schedule schedule = compile(mask, {{sequence}, 1, 1}, plain_tiling(64, 64));
  const std::string png = encode_png(draw_schedule(schedule, mask, max_pixels));
  return nb::make_tuple(nb::bytes(png.data(), png.size()), draw_text(mask, sequence, kTextColumns));
}

DType dtype_named(std::string_view name) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    if (name_of(dtype) == name) return dtype;
  }
  throw InvalidArgument(concat("plan: unknown dtype ", name));
}

// What the kernels of a device, "cpu" or "cuda", offer.
Tiling tiling_of(const std::string& device, DType dtype, int head_dim) {
  if (device == "cuda") return gpu_tiling(head_dim, Sweep::kRows);
  return cpu_kernels().attention.tiling({.q_dtype = dtype, .kv_dtype = dtype, .head_dim = head_dim},
                                        Sweep::kRows);
}

nb::dict plan(const std::string& text, const Texts& bindings, const Arrays& arrays,
              const Sequence& sequence_given, const Heads& heads, int head_dim,
              const std::string& dtype_name, const std::string& device) {
  constexpr std::int64_t kPageSize = 64;
  const SequenceShape sequence = shape_of(sequence_given);
  const Mask mask = mask_of(text, bindings, arrays, sequence);
  const AttentionShape shape{{sequence}, std::get<0>(heads), std::get<1>(heads)};
  const DType dtype = dtype_named(dtype_name);
  const Tiling tiling = tiling_of(device, dtype, head_dim);
  const auto begin = std::chrono::steady_clock::now();
  const Schedule schedule = compile(mask, shape, tiling);
  const std::chrono::duration<double, std::milli> plan_ms =
      std::chrono::steady_clock::now() - begin;
  const ScheduleCost cost = cost_of(schedule);
  const std::int64_t key_bytes =
      2 * std::get<1>(heads) * head_dim * static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t total = sequence.q_offset + sequence.q_len;
  const auto bytes_under = [&](const Mask& of) {
    return Retention(of, total + kPageSize, shape.num_q_heads, shape.num_kv_heads)
        .retained_bytes(total, kPageSize, key_bytes);
  };
  nb::dict report;
  report["live_pairs"] = cost.live_pairs;
  report["computed_pairs"] = cost.computed_pairs;
  report["total_pairs"] = cost.total_pairs;
  report["full_tiles"] = cost.full_tiles;
  report["partial_tiles"] = cost.partial_tiles;
  report["bitmaps"] = schedule.bitmaps.count();
  report["q_tile"] = schedule.plan.outer_tile;
  report["k_tile"] = schedule.plan.inner_tile;
  report["plan_ms"] = plan_ms.count();
  report["flops"] = cost.flops(head_dim);
  report["kv_bytes"] = bytes_under(mask);
  report["kv_bytes_all"] = bytes_under(Mask::causal());
  return report;
}

}  // namespace
}  // namespace perpend::python

NB_MODULE(_native, module) {
  using namespace perpend;
  using namespace perpend::python;
  using namespace nb::literals;
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const InvalidArgument& invalid) {
      PyErr_SetString(PyExc_ValueError, invalid.what());
    }
  });
  module.def("canonical", [](const std::string& text) { return parse_mask(text).str(); });
  module.def("canonical_label", [](const std::string& text) { return parse_label(text).str(); });
  module.def("dense", &dense);
  module.def("picture", &picture);
  module.def("plan", &plan);
  module.attr("__version__") = PERPEND_VERSION;
}
