// The decode kernel and the sums behind it as their sources stand, run by an emulated GPU, against
// the f64 reference: on any machine, without a GPU or its compiler.

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/decode_image.h"
#include "perpend/kernels/cuda/device/hopper_decode.cuh"
#include "perpend/kernels/cuda/device/split_sum.cuh"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/emulated/emulated_operands.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

constexpr int kCtas = 2;

// A forward call whose kernels are emulated.
class EmulatedDecode {
 public:
  // `seed` chooses the order of the threads.
  EmulatedDecode(const AttentionArgs& args, const Schedule& schedule, std::uint64_t seed)
      : args_(args), seed_(seed), head_dim_(static_cast<int>(args.q.size(args.q.num_axes() - 1))) {
    image_ = make_decode_image(schedule, head_dim_);
    counts_ = {static_cast<std::int32_t>(image_.items.size()),
               static_cast<std::int32_t>(image_.sums.size())};
    split_lse_.assign(static_cast<std::size_t>(image_.split_rows), NAN);
    const float scale = args.scale != 0 ? args.scale : 1 / std::sqrt(static_cast<float>(head_dim_));
    const TensorView& slopes = args.score.alibi_slopes;
    common_.lists = {
        image_.items.data(),         image_.lists.steps.data(), image_.lists.sub_tiles.data(),
        image_.lists.bitmaps.data(), counts_.num_items,         schedule.shape.group_size(),
        image_.lists.box_rows};
    common_.outputs = {args.o.data,
                       args.lse ? args.lse.as<float>() : nullptr,
                       row_strides(args.o),
                       lse_strides(args.lse),
                       head_dim_,
                       args.o.dtype == DType::kF32,
                       false};
    common_.scores = {scale * device::kLog2E, args.score.soft_cap,
                      slopes ? slopes.as<const float>() : nullptr};
    common_.q_is_ragged = static_cast<bool>(args.q_indptr);
    common_.kv_is_ragged = static_cast<bool>(args.kv_indptr);
  }

  int num_sums() const { return counts_.num_sums; }

  template <int kHeadDim, bool kChanges>
  void run() {
    using Kernel = device::HopperDecode<device::Bf16, kHeadDim, kChanges>;
    static_assert(Kernel::kSharedBytes <= static_cast<int>(device::kEmulatedShared));
    split_o_.assign(split_lse_.size() * kHeadDim, NAN);
    const device::SplitRows split{split_o_.data(), split_lse_.data()};
    unsigned counter = 0;
    device::HopperDecodeParams params{};
    params.common = common_;
    params.q = {args_.q.as<const std::uint16_t>(), row_strides(args_.q), false};
    params.counts = &counts_;
    params.split = split;
    params.counter = &counter;
    params.step_rows = Kernel::kKeys;
    if (args_.page_table) {
      const auto page_size = static_cast<int>(args_.k.size(1));
      params.step_rows = std::gcd(page_size, Kernel::kKeys);
      params.pages = {args_.page_table.as<const std::int32_t>(), args_.page_table.stride(0),
                      page_size};
    }
    params.maps = {map_of(args_.k, 1, params.step_rows, Kernel::Layout::kRowBytes),
                   map_of(args_.v, 1, params.step_rows, Kernel::Layout::kRowBytes),
                   map_of(args_.k, 1, kDecodeBoxRows, Kernel::Layout::kRowBytes),
                   map_of(args_.v, 1, kDecodeBoxRows, Kernel::Layout::kRowBytes)};
    device::run_emulated(std::min(kCtas, counts_.num_items), Kernel::kThreads, seed_,
                         [&] { device::hopper_decode<Kernel>(params); });
    EXPECT_EQ(counter, 0U) << "the counter is not as it was";
    const device::SplitSumParams sums{common_.outputs,          image_.sums.data(), &counts_, split,
                                      common_.lists.group_size, common_.q_is_ragged};
    device::run_emulated(counts_.num_sums, 32 * device::kRowsOfSumCta, seed_,
                         [&] { device::split_sum<device::Bf16, kHeadDim>(sums); });
  }

 private:
  const AttentionArgs& args_;
  std::uint64_t seed_;
  int head_dim_;
  DecodeImage image_;
  device::DecodeCounts counts_{};
  device::ForwardParams common_{};
  std::vector<float> split_o_;
  std::vector<float> split_lse_;
};

AttentionCase decode_case(const std::string& mask, std::vector<SequenceShape> sequences, int heads,
                          int kv_heads, std::int64_t head_dim, std::int64_t page_size = 0) {
  AttentionCase c;
  c.masks = {parse_mask(mask)};
  c.shape = {std::move(sequences), heads, kv_heads};
  c.head_dim = head_dim;
  c.page_size = page_size;
  c.layout.ragged = true;
  c.q_dtype = c.kv_dtype = DType::kBF16;
  return c;
}

struct EmulatedRun {
  AttentionOutputs outputs;
  int num_sums = 0;
};

template <int kHeadDim, bool kChanges>
EmulatedRun run_decode(AttentionCall& call) {
  const AttentionCase& c = call.attention_case();
  Tiling tiling = gpu_tiling(static_cast<int>(c.head_dim), Sweep::kRows);
  tiling.any_start = c.page_size == 0;
  EmulatedRun result{call.outputs()};
  const AttentionArgs args = call.arguments(result.outputs);
  EmulatedDecode decode(args, compile(c.masks, c.shape, tiling), c.seed);
  decode.run<kHeadDim, kChanges>();
  result.num_sums = decode.num_sums();
  return result;
}

template <int kHeadDim, bool kChanges = false>
EmulatedRun expect_right(const AttentionCase& c) {
  ThreadPool threads;
  AttentionCall call(c);
  EmulatedRun result = run_decode<kHeadDim, kChanges>(call);
  for (const Deviation& d : AttentionExpectation(call, false, threads).compare(result.outputs)) {
    EXPECT_TRUE(d.holds()) << c << "\n  " << d;
    if (d.output == AttentionOutput::kLse) continue;
    EXPECT_LT(d.total_error, 5e-3) << c << "\n  " << d;
  }
  return result;
}

TEST(EmulatedDecode, OneQueryAgainstPages) {
  for (const std::int64_t page_size : {16, 48, 64, 256}) {
    const EmulatedRun run =
        expect_right<64>(decode_case("causal", {{1, 700, 699}}, 4, 1, 64, page_size));
    EXPECT_EQ(run.num_sums, 1) << "its list is cut";
  }
  expect_right<64>(decode_case("all", {{1, 130, 129}}, 2, 2, 40, 64));
  expect_right<128>(decode_case("causal", {{1, 300, 299}}, 3, 1, 128, 64));
  expect_right<256>(decode_case("causal", {{1, 150, 149}}, 2, 1, 200, 32));
}

TEST(EmulatedDecode, BlocksSpeculationAndGroups) {
  expect_right<64>(decode_case("upto(block(32))", {{32, 608, 576}}, 4, 1, 64, 64));
  expect_right<64>(decode_case("causal", {{5, 590, 585}}, 8, 1, 64, 64));
  expect_right<64>(decode_case("causal", {{70, 300, 230}}, 2, 1, 64, 16));
}

TEST(EmulatedDecode, MasksAndRaggedBatches) {
  for (const char* mask : {"causal & (sink(16) | window(100))", "causal & every(16, 4)",
                           "causal & ~window(200)", "heads(0: causal; rest: window(30, 30))"}) {
    const std::vector<SequenceShape> sequences = {{1, 515, 514}, {3, 70, 67}, {1, 1, 0}};
    expect_right<64>(decode_case(mask, sequences, 2, 1, 64, 64));
    expect_right<64>(decode_case(mask, sequences, 2, 1, 64));
  }
  expect_right<64>(decode_case("all", {{2, 0, 0}, {1, 33, 0}}, 1, 1, 64, 16));
}

TEST(EmulatedDecode, NothingOfTheNextSequenceCounts) {
  for (const char* mask : {"causal", "causal & every(16, 4)"}) {
    AttentionCall call(decode_case(mask, {{1, 100, 99}, {2, 50, 48}, {3, 150, 147}}, 2, 1, 64));
    const EmulatedRun expected = run_decode<64, false>(call);
    AttentionOutputs unused = call.outputs();
    const AttentionArgs args = call.arguments(unused);
    poison(args.q, 1, 3);
    poison(args.k, 100, 150);
    poison(args.v, 100, 150);
    const EmulatedRun found = run_decode<64, false>(call);
    for (const std::size_t s : {0, 2}) {
      EXPECT_EQ(found.outputs.o.row_bytes(s), expected.outputs.o.row_bytes(s)) << mask << ", " << s;
    }
  }
}

TEST(EmulatedDecode, ChangedScores) {
  AttentionCase c = decode_case("causal & (sink(16) | window(300))", {{2, 520, 518}}, 2, 1, 64, 64);
  c.soft_cap = 5;
  expect_right<64, true>(c);
  c.alibi = true;
  expect_right<64, true>(c);
}

TEST(EmulatedDecode, BatchMatesChangeNoBit) {
  const AttentionCase c = decode_case(
      "causal", {{1, 700, 699}, {4, 90, 86}, {1, 1000, 999}, {1, 130, 129}}, 2, 1, 64, 64);
  AttentionCall call(c);
  const EmulatedRun together = run_decode<64, false>(call);
  for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
    AttentionCall alone = call.alone(s);
    const EmulatedRun one = run_decode<64, false>(alone);
    EXPECT_EQ(together.outputs.o.row_bytes(s), one.outputs.o.row_bytes(0));
    EXPECT_EQ(together.outputs.lse.row_bytes(s), one.outputs.lse.row_bytes(0));
  }
}

TEST(EmulatedDecode, RandomCases) {
  const Campaign campaign(40);
  for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    AttentionCase c = random_attention_case(random);
    c.q_dtype = c.kv_dtype = DType::kBF16;
    c.page_size = static_cast<std::int64_t>(16 * random.next_below(9));
    c.layout.ragged = true;
    c.head_dim = 1 + c.head_dim % 128;
    const bool changes = c.soft_cap != 0 || c.alibi;
    if (c.head_dim <= 64) {
      changes ? expect_right<64, true>(c) : expect_right<64, false>(c);
    } else {
      changes ? expect_right<128, true>(c) : expect_right<128, false>(c);
    }
  }
}

}  // namespace
}  // namespace perpend
