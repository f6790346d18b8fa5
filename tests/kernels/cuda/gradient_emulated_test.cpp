// The backward kernels as their sources stand, run by an emulated GPU, against the f64 reference:
// on any machine, without a GPU or its compiler.

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/device/hopper_gradient.cuh"
#include "perpend/kernels/cuda/device/portable_gradient.cuh"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/emulated/emulated_operands.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

constexpr int kCtas = 2;

std::int64_t lse_offset(const TensorView& view, std::int64_t batch, std::int64_t token, int head) {
  const device::RowStrides strides = lse_strides(view);
  return batch * strides.batch + head * strides.head + token * strides.token;
}

float bf16_at(const TensorView& view, std::int64_t offset) {
  return device::Bf16::value(view.as<const std::uint16_t>()[offset]);
}

// A backward call whose kernels are emulated.
class EmulatedBackward {
 public:
  EmulatedBackward(const AttentionGradArgs& args, const Schedule& rows, const Schedule& columns,
                   std::uint64_t seed)
      : args_(args), shape_(rows.shape), seed_(seed) {
    const auto head_dim = static_cast<int>(args.forward.q.size(args.forward.q.num_axes() - 1));
    rows_ = make_schedule_image(rows, head_dim);
    columns_ = make_column_image(columns, head_dim);
    const float scale =
        args.forward.scale != 0 ? args.forward.scale : 1 / std::sqrt(static_cast<float>(head_dim));
    const TensorView& slopes = args.forward.score.alibi_slopes;
    common_ = {statistics(head_dim),
               {scale * device::kLog2E, args.forward.score.soft_cap,
                slopes ? slopes.as<const float>() : nullptr},
               scale,
               head_dim,
               static_cast<bool>(args.forward.q_indptr),
               static_cast<bool>(args.forward.kv_indptr)};
    row_pass_ = {
        {rows_.items.data(), rows_.steps.data(), rows_.sub_tiles.data(), rows_.bitmaps.data(),
         static_cast<std::int32_t>(rows_.items.size()), shape_.group_size(), rows_.box_rows},
        output(args.dq)};
    column_pass_ = {{columns_.items.data(), columns_.steps.data(), columns_.sub_tiles.data(),
                     columns_.bitmaps.data(), static_cast<std::int32_t>(columns_.items.size()),
                     shape_.group_size(), columns_.box_rows},
                    output(args.dk),
                    output(args.dv)};
  }

  template <int kHeadDim, bool kChanges>
  void run_hopper() {
    run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::RowPass, kChanges>>(
        row_pass_, queries(), keys());
    run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::ColumnPass, kChanges>>(
        column_pass_, keys(), queries());
  }
  template <int kHeadDim>
  void run_fused() {
    constexpr int kPanels = device::QuerySums::kPanels;
    std::int64_t rows = 0;
    for (const SequenceShape& s : shape_.sequences) rows += s.q_len;
    std::vector<float> sums(static_cast<std::size_t>(shape_.num_q_heads * rows * kHeadDim));
    const device::QuerySums dq{sums.data(), rows};
    run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::FusedPass, false>>(
        device::FusedPassParams{column_pass_, dq}, keys(), queries());
    const device::GradientOutput& to = row_pass_.dq;
    for (int head = 0; head < shape_.num_q_heads; ++head) {
      for (std::int64_t row = 0; row < rows; ++row) {
        for (int column = 0; column < common_.head_dim; ++column) {
          constexpr int kColumns = kHeadDim / kPanels;
          const std::int64_t index = dq.row_index(head, column / kColumns, row);
          const std::int64_t place = index * kColumns + device::sum_place(index, column % kColumns);
          const float value = sums[static_cast<std::size_t>(place)] * common_.scale;
          static_cast<std::uint16_t*>(
              to.data)[row * to.strides.token + head * to.strides.head + column] =
              static_cast<std::uint16_t>(device::Bf16::pack(value, 0));
        }
      }
    }
  }
  template <int kHeadDim>
  void run_portable() {
    run_portable<device::PortableGradient<device::Bf16, kHeadDim, device::RowPass>>(
        row_pass_, queries(), keys());
    run_portable<device::PortableGradient<device::Bf16, kHeadDim, device::ColumnPass>>(
        column_pass_, keys(), queries());
  }

 private:
  using Operands = std::array<TensorView, 2>;
  Operands queries() const { return {args_.forward.q, args_.d_o}; }
  Operands keys() const { return {args_.forward.k, args_.forward.v}; }

  static device::GradientOutput output(const TensorView& view) {
    return {view.data, row_strides(view), false, view.size(view.num_axes() - 1) % 8 == 0};
  }

  device::Statistics statistics(int head_dim) {
    std::int64_t rows = 0;
    for (const SequenceShape& s : shape_.sequences) rows += s.q_len + device::kStatisticsPad;
    negative_lse_.assign(static_cast<std::size_t>(rows * shape_.num_q_heads), -INFINITY);
    delta_.assign(negative_lse_.size(), 0.0F);
    const bool ragged = static_cast<bool>(args_.forward.q_indptr);
    std::int64_t base = 0;
    for (std::size_t s = 0; s < shape_.sequences.size(); ++s) {
      for (std::int64_t query = 0; query < shape_.sequences[s].q_len; ++query) {
        for (int head = 0; head < shape_.num_q_heads; ++head) {
          const auto batch = ragged ? 0 : static_cast<std::int64_t>(s);
          add_statistics(
              head * rows + device::statistics_row(static_cast<std::int64_t>(s), base) + query,
              batch, query + (ragged ? base : 0), head, head_dim);
        }
      }
      base += shape_.sequences[s].q_len;
    }
    return {negative_lse_.data(), delta_.data(), rows};
  }
  void add_statistics(std::int64_t to, std::int64_t batch, std::int64_t token, int head,
                      int head_dim) {
    const auto at = static_cast<std::size_t>(to);
    const float lse =
        args_.forward.lse.as<const float>()[lse_offset(args_.forward.lse, batch, token, head)];
    if (lse == -INFINITY) return;
    negative_lse_[at] = -lse * device::kLog2E;
    const auto offset = [&](const TensorView& view) {
      const device::RowStrides strides = row_strides(view);
      return batch * strides.batch + token * strides.token + head * strides.head;
    };
    for (int d = 0; d < head_dim; ++d) {
      delta_[at] += bf16_at(args_.forward.o, offset(args_.forward.o) + d) *
                    bf16_at(args_.d_o, offset(args_.d_o) + d);
    }
    if (args_.d_lse) {
      delta_[at] -= args_.d_lse.as<const float>()[lse_offset(args_.d_lse, batch, token, head)];
    }
  }

  template <class Kernel, class Pass>
  void run_hopper(const Pass& pass, const Operands& outer, const Operands& inner) {
    static_assert(Kernel::kSharedBytes <= static_cast<int>(device::kEmulatedShared));
    unsigned counter = 0;
    typename Kernel::Params params{{}, common_, pass, &counter};
    for (std::size_t i = 0; i < 2; ++i) {
      const int group = pass.lists.group_size;
      params.maps.outer_separate[i] = map_of(outer[i], 1, device::kPartRows);
      params.maps.outer_packed[i] = map_of(outer[i], group, device::kPartRows / group);
      params.maps.inner_step[i] = map_of(inner[i], 1, Kernel::kInnerRows);
      params.maps.inner_box[i] = map_of(inner[i], 1, pass.lists.box_rows);
    }
    const int num_ctas = std::min(kCtas, pass.lists.num_items);
    device::run_emulated(num_ctas, Kernel::kThreads, seed_,
                         [&] { device::hopper_gradient<Kernel>(params); });
    EXPECT_EQ(counter, 0U) << "the counter is not as it was";
  }

  template <class Kernel, class Pass>
  void run_portable(const Pass& pass, const Operands& outer, const Operands& inner) {
    const auto source = [](const TensorView& view) {
      return device::RowSource{view.as<const std::uint16_t>(), row_strides(view), false};
    };
    const typename Kernel::Params params{
        common_, pass, {source(outer[0]), source(outer[1])}, {source(inner[0]), source(inner[1])}};
    device::run_emulated(2 * Kernel::kGradients * pass.lists.num_items, device::kPortableThreads,
                         seed_, [&] { device::portable_gradient<Kernel>(params); });
  }

  const AttentionGradArgs& args_;
  AttentionShape shape_;
  std::uint64_t seed_;  // of the order of threads
  ScheduleImage rows_;
  ColumnImage columns_;
  std::vector<float> negative_lse_;
  std::vector<float> delta_;
  device::GradientParams common_;
  device::RowPassParams row_pass_;
  device::ColumnPassParams column_pass_;
};

// Forward on the CPU, then run(backward) on the emulated GPU.
template <class Run>
void expect_right(const AttentionCase& c, Run run) {
  ThreadPool threads;
  AttentionBackend cpu = attention_backends().front();
  cpu.table.backward = nullptr;
  AttentionCall call(c);
  AttentionOutputs outputs = call.run(cpu, plan(c, cpu.table), threads);
  const auto compiled = [&](Sweep sweep) {
    return compile(c.masks, c.shape, gpu_tiling(static_cast<int>(c.head_dim), sweep), sweep);
  };
  const Schedule rows = compiled(Sweep::kRows);
  const Schedule columns = compiled(Sweep::kColumns);
  const AttentionGradArgs args = call.gradient_arguments(outputs);
  EmulatedBackward backward(args, rows, columns, c.seed);
  run(backward);
  for (const Deviation& d : AttentionExpectation(call, true, threads).compare(outputs)) {
    EXPECT_TRUE(d.holds()) << c << "\n  " << d;
    if (d.output == AttentionOutput::kLse) continue;
    EXPECT_LT(d.total_error, 1e-2) << c << "\n  " << d;
  }
}

// By the kernels that the library takes.
template <bool kChanges>
void run_as_built(EmulatedBackward& backward, std::int64_t head_dim) {
  if (head_dim <= 32) return backward.run_hopper<32, kChanges>();
  if (head_dim <= 64) return backward.run_hopper<64, kChanges>();
  backward.run_hopper<128, kChanges>();
}

template <int kHeadDim, bool kChanges = false>
void expect_hopper_right(const AttentionCase& c) {
  expect_right(c, [](EmulatedBackward& b) { b.run_hopper<kHeadDim, kChanges>(); });
}

template <int kHeadDim>
void expect_fused_right(AttentionCase c) {
  c.layout.ragged = true;
  expect_right(c, [](EmulatedBackward& b) { b.run_fused<kHeadDim>(); });
}

TEST(EmulatedGpu, FindsThreadsThatCanNotGoOn) {
  constexpr std::uint32_t kBarrier = 16;
  const auto kernel = [] {
    if (threadIdx.x == 0) device::barrier_init(kBarrier, 2);
    __syncthreads();
    if (threadIdx.x < 32) device::barrier_wait(kBarrier, 0);
    if (threadIdx.x == 40) device::barrier_arrive(kBarrier);
  };
  EXPECT_THAT(
      [&] { device::run_emulated(1, 64, 1, kernel); },
      testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("0 to 31: the barrier at 16")));
}

TEST(EmulatedHopperGradient, DenseAndCausal) {
  expect_hopper_right<64>(make_case("all", {{128, 128, 0}}, 1, 1, 64));
  expect_hopper_right<64>(make_case("causal", {{300, 300, 0}}, 1, 1, 64));
  expect_hopper_right<128>(make_case("causal", {{200, 200, 0}}, 1, 1, 128));
  expect_hopper_right<128>(make_case("all", {{40, 70, 0}}, 1, 1, 72));
}

TEST(EmulatedHopperGradient, ManyItemsOfOneStep) {
  for (int seed = 1; seed <= num_trials(5); ++seed) {
    AttentionCase c = make_case("all", {{700, 20, 0}}, 1, 1, 8);
    c.seed = static_cast<std::uint64_t>(seed);
    expect_hopper_right<32>(c);
    c.head_dim = 40;
    expect_hopper_right<64>(c);
  }
}

TEST(EmulatedHopperGradient, NarrowHeads) {
  expect_hopper_right<32>(make_case("causal", {{300, 300, 0}}, 1, 1, 32));
  for (const char* mask : {"same(block(64))", "same(block(48))", "causal & every(16, 4)"}) {
    AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 32);
    c.layout.ragged = true;
    expect_hopper_right<32>(c);
  }
  expect_hopper_right<32>(make_case("causal", {{150, 50, 0}, {150, 50, 0}}, 3, 1, 24));
  // As many items as are known in advance.
  expect_hopper_right<32>(make_case("same(block(64))", {{640, 640, 0}}, 8, 8, 16));
}

TEST(EmulatedHopperGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask :
       {"causal & (sink(16) | window(60))", "same(block(48))", "causal & every(16, 4)",
        "causal & ~window(100)", "heads(0-1: causal; rest: window(30, 30))"}) {
    AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 64);
    c.layout.ragged = true;
    expect_hopper_right<64>(c);
  }
  expect_hopper_right<64>(make_case("causal", {{150, 50, 0}, {150, 50, 0}}, 3, 1, 64));
}

TEST(EmulatedHopperGradient, ChangedScores) {
  AttentionCase c = make_case("causal & (sink(16) | window(60))", {{150, 150, 0}}, 2, 1, 64);
  c.soft_cap = 5;
  expect_hopper_right<64, true>(c);
  c.alibi = true;
  expect_hopper_right<64, true>(c);
  c.head_dim = 32;
  expect_hopper_right<32, true>(c);
}

TEST(EmulatedFusedGradient, DenseAndCausal) {
  expect_fused_right<64>(make_case("all", {{128, 128, 0}}, 1, 1, 64));
  expect_fused_right<64>(make_case("causal", {{300, 300, 0}}, 1, 1, 64));
  expect_fused_right<128>(make_case("causal", {{200, 200, 0}}, 1, 1, 128));
  expect_fused_right<128>(make_case("all", {{40, 70, 0}}, 1, 1, 72));
}

TEST(EmulatedFusedGradient, ManyItemsOfOneStep) {
  for (int seed = 1; seed <= num_trials(5); ++seed) {
    AttentionCase c = make_case("all", {{20, 700, 0}}, 1, 1, 40);
    c.seed = static_cast<std::uint64_t>(seed);
    expect_fused_right<64>(c);
  }
}

TEST(EmulatedFusedGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask :
       {"causal & (sink(16) | window(60))", "same(block(48))", "causal & every(16, 4)",
        "causal & ~window(100)", "heads(0-1: causal; rest: window(30, 30))"}) {
    const AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 64);
    expect_fused_right<64>(c);
  }
}

// Part 1 alone is live in a step without a bitmap of its own, and keys of the next sequence stand
// behind its 36.
TEST(EmulatedFusedGradient, KeysBehindTheEndOfAPart) {
  expect_fused_right<64>(make_case("same(block(64))", {{128, 100, 0}, {128, 100, 0}}, 1, 1, 64));
}

TEST(EmulatedPortableGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask : {"causal & (sink(16) | window(60))", "causal & every(16, 4)"}) {
    AttentionCase c = make_case(mask, {{20, 20, 0}, {20, 70, 50}}, 2, 1, 50);
    c.layout.ragged = true;
    c.alibi = true;
    c.soft_cap = 5;
    expect_right(c, [](EmulatedBackward& b) { b.run_portable<64>(); });
  }
  expect_right(make_case("causal", {{20, 20, 0}}, 1, 1, 256),
               [](EmulatedBackward& b) { b.run_portable<256>(); });
}

TEST(EmulatedHopperGradient, RandomCases) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(6)));
  for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    AttentionCase c = random_attention_case(random);
    c.q_dtype = c.kv_dtype = DType::kBF16;
    c.page_size = 0;
    c.f32_outputs = c.without_lse = false;
    c.layout.ragged = true;
    c.head_dim = 1 + c.head_dim % 128;
    expect_right(c, [&](EmulatedBackward& b) {
      c.soft_cap != 0 || c.alibi ? run_as_built<true>(b, c.head_dim)
                                 : run_as_built<false>(b, c.head_dim);
    });
    if (c.head_dim <= 32 || c.soft_cap != 0 || c.alibi) continue;
    c.head_dim <= 64 ? expect_fused_right<64>(c) : expect_fused_right<128>(c);
  }
}

}  // namespace
}  // namespace perpend
