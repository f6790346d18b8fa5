#include "perpend/kernels/cpu/attention_few_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "perpend/core/half.h"
#include "perpend/kernels/cpu/attention_operands.h"
#include "perpend/kernels/cpu/scratch.h"

namespace perpend {
namespace {

constexpr int kMaxKeys = 64;               // that are handled at once
constexpr int kSplitKeys = 1024;           // keys of one part of a long list
constexpr std::int64_t kSerialKeys = 768;  // up to here work stays on the calling thread

float load_value(DType dtype, const std::byte* row, std::int64_t index) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(row)[index];
  const std::uint16_t half = reinterpret_cast<const std::uint16_t*>(row)[index];
  return dtype == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

void store_value(DType dtype, std::byte* row, std::int64_t index, float value) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(row)[index] = value;
  } else {
    reinterpret_cast<std::uint16_t*>(row)[index] =
        dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
  }
}

// Part of the key list of an item. Lists are cut by their own length alone, so that neither threads
// nor batch-mates change a bit.
struct Part {
  const WorkItem* item;
  std::int32_t first_step;
  std::int32_t num_steps;
};

class FewRows {
 public:
  FewRows(const FewRowsMicro& micro, const AttentionArgs& args, const Schedule& schedule)
      : micro_(micro),
        score_(args.score),
        schedule_(schedule),
        q_(args.q, args.q_indptr),
        o_(args.o, args.q_indptr),
        k_(args.k, args.kv_indptr, args.page_table),
        v_(args.v, args.kv_indptr, args.page_table),
        lse_(args.lse, args.q_indptr),
        dim_(q_.dim()),
        padded_dim_(padded_dim(dim_)),
        q_scale_(static_cast<float>(scale_of(args, dim_)) * std::numbers::log2e_v<float>),
        steps_of_a_part_(std::max(1, kSplitKeys / schedule.plan.inner_tile)) {}

  void run(AlignedBuffer* given, ThreadPool& threads) {
    std::size_t num_parts = 0;
    std::int64_t total_steps = 0;
    for_parts([&](const Part& part) {
      ++num_parts;
      total_steps += part.num_steps;
    });
    if (num_parts == 0) return;
    ScratchLayout layout;
    const std::size_t parts_at = layout.add<Part>(num_parts);
    const std::size_t states_at = layout.add<float>(num_parts * state_size());
    Scratch scratch(given, layout.size());
    parts_ = scratch.view().at<Part>(parts_at);
    states_ = scratch.view().at<float>(states_at);
    std::size_t next = 0;
    for_parts([&](const Part& part) { parts_[next++] = part; });
    const auto run_range = [&](Range range) {
      for (std::int64_t i = range.begin; i < range.end; ++i) {
        run_part(parts_[i], state_of(static_cast<std::size_t>(i)));
      }
    };
    const auto count = static_cast<std::int64_t>(num_parts);
    if (total_steps * schedule_.plan.inner_tile <= kSerialKeys) {
      run_range({0, count});
    } else {
      threads.parallel_for(count, 1, run_range);
    }
    merge_parts(num_parts);
  }

 private:
  template <class Body>
  void for_parts(Body body) const {
    for (const WorkItem& item : schedule_.items) {
      if (!has_few_rows(schedule_, item)) continue;
      const auto num_steps = static_cast<std::int32_t>(schedule_.list(item.list).size());
      for (std::int32_t first = 0; first == 0 || first < num_steps; first += steps_of_a_part_) {
        body(Part{&item, first, std::min(steps_of_a_part_, num_steps - first)});
      }
    }
  }

  std::size_t state_size() const {
    return std::size_t{kFewRows} * static_cast<std::size_t>(padded_dim_ + 2);
  }
  SoftmaxState state_of(std::size_t part) const {
    float* first = states_ + part * state_size();
    return {first, first + kFewRows, first + 2 * kFewRows};
  }

  void run_part(const Part& part, const SoftmaxState& state) const {
    const WorkItem& item = *part.item;
    const PackedRows rows{item.num_heads * item.size, item.size, dim_, k_.dtype()};
    alignas(64) std::array<float, kFewRows * tile::kMaxDim> q;
    alignas(64) std::array<float, kFewRows * kMaxKeys + 4 * tile::kMaxDim> scratch;
    std::fill_n(state.row_max, kFewRows, kMinusInfinity);
    std::fill_n(state.row_sum, kFewRows, 0.0F);
    std::fill_n(state.o, rows.num_rows * padded_dim_, 0.0F);
    for (int row = 0; row < rows.num_rows; ++row) load_q(item, row, q.data() + row * padded_dim_);
    RowPlaces places;
    RowScoreChange change = change_of(item, places);
    const std::int64_t kv_len = schedule_.inner_len(item.sequence);
    const auto steps = schedule_.list(item.list).subspan(static_cast<std::size_t>(part.first_step),
                                                         static_cast<std::size_t>(part.num_steps));
    for (const TileEntry& entry : steps) {
      TileBits bits;
      if (!entry.is_full()) {
        bits = {schedule_.bitmaps.row(entry.bitmap(), 0).data(), schedule_.bitmaps.words_per_row()};
      }
      schedule_.for_pieces(entry, kv_len, [&](std::int32_t begin, int size, int column) {
        for_runs(item, begin, size, [&](const KvTile& tile, int num_keys, int first) {
          bits.first_column = column + first;
          change.first_key = static_cast<float>(begin + first);
          micro_.add_tile_rows(rows, q.data(), tile, num_keys, bits, change, scratch.data(), state);
        });
      });
    }
  }

  // Calls body(keys, their number, first of them) for the stretches of a piece that lie in memory
  // one row after another.
  template <class Body>
  void for_runs(const WorkItem& item, std::int64_t begin, int size, Body body) const {
    const int kv_head = item.q_head / schedule_.shape.group_size();
    for (int first = 0; first < size;) {
      const std::int64_t token = begin + first;
      const std::int64_t left = std::min<std::int64_t>(size - first, kMaxKeys);
      const auto count = static_cast<int>(std::min(left, k_.run_length(token)));
      body({k_.row(item.sequence, kv_head, token), v_.row(item.sequence, kv_head, token),
            k_.stride(), v_.stride()},
           count, first);
      first += count;
    }
  }

  void load_q(const WorkItem& item, int row, float* to) const {
    const std::byte* from =
        q_.row(item.sequence, item.q_head + row / item.size, item.begin + row % item.size);
    for (int d = 0; d < padded_dim_; ++d) {
      to[d] = d < dim_ ? load_value(q_.dtype(), from, d) * q_scale_ : 0.0F;
    }
  }

  void merge_parts(std::size_t num_parts) const {
    for (std::size_t i = 0; i < num_parts;) {
      const SoftmaxState state = state_of(i);
      const WorkItem& item = *parts_[i].item;
      for (++i; i < num_parts && parts_[i].item == &item; ++i) {
        for (int row = 0; row < item.num_heads * item.size; ++row) merge(row, state_of(i), state);
      }
      for (int row = 0; row < item.num_heads * item.size; ++row) store(item, row, state);
    }
  }

  // into += from: two online-softmax states of a row.
  void merge(int row, const SoftmaxState& from, const SoftmaxState& into) const {
    if (from.row_sum[row] == 0.0F) return;
    const float top = std::max(from.row_max[row], into.row_max[row]);
    const float from_scale = std::exp2(from.row_max[row] - top);
    const float into_scale = into.row_sum[row] == 0.0F ? 0.0F : std::exp2(into.row_max[row] - top);
    for (int d = row * padded_dim_; d < (row + 1) * padded_dim_; ++d) {
      into.o[d] = into.o[d] * into_scale + from.o[d] * from_scale;
    }
    into.row_sum[row] = into.row_sum[row] * into_scale + from.row_sum[row] * from_scale;
    into.row_max[row] = top;
  }

  void store(const WorkItem& item, int row, const SoftmaxState& state) const {
    const int head = item.q_head + row / item.size;
    const std::int64_t token = item.begin + row % item.size;
    std::byte* out = o_.row(item.sequence, head, token);
    const bool empty = state.row_sum[row] == 0.0F;
    const float inverse = empty ? 0.0F : 1.0F / state.row_sum[row];
    for (int d = 0; d < dim_; ++d) {
      store_value(o_.dtype(), out, d, empty ? 0.0F : state.o[row * padded_dim_ + d] * inverse);
    }
    if (!lse_) return;
    lse_.at<float>(item.sequence, head, token) =
        empty ? kMinusInfinity
              : state.row_max[row] * std::numbers::ln2_v<float> + std::log(state.row_sum[row]);
  }

  // Slopes and positions of the rows of one item.
  struct RowPlaces {
    std::array<float, kFewRows> slopes;
    std::array<float, kFewRows> places;
  };
  RowScoreChange change_of(const WorkItem& item, RowPlaces& rows) const {
    if (!score_.alibi_slopes) return {score_.soft_cap};
    const auto& sequence = schedule_.shape.sequences[static_cast<std::size_t>(item.sequence)];
    for (int row = 0; row < item.num_heads * item.size; ++row) {
      const std::int64_t head = item.q_head + row / item.size;
      const auto at = static_cast<std::size_t>(row);
      rows.slopes[at] = score_.alibi_slopes.as<const float>()[head * score_.alibi_slopes.stride(0)];
      rows.places[at] = static_cast<float>(sequence.q_offset + item.begin + row % item.size);
    }
    return {score_.soft_cap, rows.slopes.data(), rows.places.data()};
  }

  const FewRowsMicro& micro_;
  const ScoreChange& score_;
  const Schedule& schedule_;
  TokenRows q_;
  TokenRows o_;
  TokenRows k_;
  TokenRows v_;
  RowValues lse_;
  int dim_;
  int padded_dim_;
  float q_scale_;
  std::int32_t steps_of_a_part_;
  Part* parts_ = nullptr;
  float* states_ = nullptr;  // row maxima, row sums and outputs of each part
};

}  // namespace

void attention_forward_few_rows(const FewRowsMicro& micro, const AttentionArgs& args,
                                const Schedule& schedule, Stream stream) {
  FewRows(micro, args, schedule).run(args.scratch, *stream.threads);
}

}  // namespace perpend
