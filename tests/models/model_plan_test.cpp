// The figures of longgen.md, section 7a, from the masks alone.

#include "perpend/models/model_plan.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/models/named_shapes.h"

namespace perpend {
namespace {

constexpr double kGibibyte = 1024.0 * 1024 * 1024;

ModelPlan plan_of(const std::string& shape, const std::string& preset, std::int64_t context,
                  std::int64_t batch = 1) {
  const ModelConfig config = changed(named_shape(shape).value(), {.preset = preset});
  return plan_model(config, default_masks(config), {.num_tokens = context, .batch = batch});
}

// The layers that are not full have equal plans; the first is one of them.
const LayerPlan& sparse_layer(const ModelPlan& plan) { return plan.layers.front(); }

TEST(ModelPlan, TilesAndBlocksKept) {
  struct Row {
    std::int64_t context, dense, sink, strided;
    double sink_share, strided_share, strided_64_share;
    std::int64_t sink_kept, strided_kept, strided_64_kept;
  };
  for (const Row& row : {Row{4096, 2080, 1552, 952, 74.615, 45.769, 45.769, 32, 17, 17},
                         Row{8192, 8256, 3600, 2040, 43.605, 24.709, 25.291, 32, 17, 18},
                         Row{16384, 32896, 7696, 4328, 23.395, 13.157, 13.838, 32, 18, 20},
                         Row{32768, 131328, 15888, 9288, 12.098, 7.072, 7.803, 32, 20, 24},
                         Row{65536, 524800, 32272, 20744, 6.149, 3.953, 4.709, 32, 24, 32},
                         Row{131072, 2098176, 65040, 49800, 3.100, 2.373, 3.142, 32, 32, 48}}) {
    const auto expect = [&](const char* preset, std::int64_t tiles, double share,
                            std::int64_t kept) {
      const ModelPlan plan = plan_of("llama2-7b", preset, row.context);
      const LayerPlan& layer = sparse_layer(plan);
      if (tiles >= 0) {
        EXPECT_EQ(layer.live_blocks, 32 * tiles) << preset << " " << row.context;
      }
      EXPECT_EQ(layer.cached_blocks, kept) << preset << " " << row.context;
      EXPECT_NEAR(
          100.0 * static_cast<double>(layer.live_blocks) / static_cast<double>(32 * row.dense),
          share, 5e-4);
    };
    expect("", row.dense, 100, row.context / 64);
    expect("longgen-as", row.sink, row.sink_share, row.sink_kept);
    expect("longgen-bs", row.strided, row.strided_share, row.strided_kept);
    expect("longgen-bs(stride=64)", -1, row.strided_64_share, row.strided_64_kept);
  }
}

TEST(ModelPlan, PairsAndSharesAt128K) {
  const auto pairs = [](const char* preset) {
    return sparse_layer(plan_of("llama2-7b", preset, 131072)).live_pairs / 32;
  };
  EXPECT_EQ(pairs(""), 8590000128);
  EXPECT_EQ(pairs("longgen-as"), 262275072);
  EXPECT_EQ(pairs("longgen-bs"), 199852032);
  const auto share_of_tiles = [](const char* preset) {
    const ModelPlan plan = plan_of("llama2-7b", preset, 131072);
    double tiles = 0;
    for (const LayerPlan& layer : plan.layers) tiles += static_cast<double>(layer.live_blocks);
    return 100 * tiles / (32.0 * 32.0 * 2098176);
  };
  EXPECT_NEAR(share_of_tiles("longgen-as"), 39.44, 5e-3);
  EXPECT_NEAR(share_of_tiles("longgen-bs"), 38.98, 5e-3);
}

TEST(ModelPlan, BytesOfKeysAndValues) {
  struct Row {
    std::int64_t context;
    double dense_7b, hybrid_7b, cut, third_7b, third_cut, dense_70b, hybrid_70b, third_70b;
  };
  for (const Row& row : {Row{4096, 2, 1.375, 31.25, 1.344, 32.81, 1.25, 0.859, 0.836},
                         Row{8192, 4, 2.125, 46.88, 2.031, 49.22, 2.5, 1.328, 1.258},
                         Row{16384, 8, 3.625, 54.69, 3.406, 57.42, 5, 2.266, 2.102},
                         Row{32768, 16, 6.625, 58.59, 6.156, 61.52, 10, 4.141, 3.789},
                         Row{65536, 32, 12.625, 60.55, 11.656, 63.57, 20, 7.891, 7.164},
                         Row{131072, 64, 24.625, 61.52, 22.656, 64.60, 40, 15.391, 13.914}}) {
    const auto expect = [&](const char* shape, const char* preset, double dense, double hybrid) {
      const ModelPlan plan = plan_of(shape, preset, row.context);
      EXPECT_NEAR(static_cast<double>(plan.dense.kv_bytes) / kGibibyte, dense, 5e-4);
      EXPECT_NEAR(static_cast<double>(plan.planned.kv_bytes) / kGibibyte, hybrid, 5.1e-4);
      return 100 * plan.kv_cut();
    };
    EXPECT_NEAR(expect("llama2-7b", "longgen-as", row.dense_7b, row.hybrid_7b), row.cut, 6e-3);
    EXPECT_NEAR(expect("llama2-7b", "longgen-as(n_full=11)", row.dense_7b, row.third_7b),
                row.third_cut, 6e-3);
    expect("llama2-70b", "longgen-as", row.dense_70b, row.hybrid_70b);
    expect("llama2-70b", "longgen-as(n_full=27)", row.dense_70b, row.third_70b);
  }
  EXPECT_NEAR(100 * plan_of("llama2-70b", "longgen-as", 131072).kv_cut(), 61.52, 6e-3);
  EXPECT_NEAR(100 * plan_of("llama2-70b", "longgen-as(n_full=27)", 131072).kv_cut(), 65.21, 6e-3);
}

TEST(ModelPlan, FlopsAndTheirBounds) {
  struct Row {
    std::int64_t context;
    double linear, dense, hybrid, prefill, training;
  };
  for (const Row& row :
       {Row{8192, 106.1, 17.6, 11.4, 1.05, 1.06}, Row{16384, 212.2, 70.4, 36.7, 1.14, 1.15},
        Row{32768, 424.4, 281.5, 126.9, 1.28, 1.32}, Row{65536, 848.8, 1125.9, 465.5, 1.50, 1.55},
        Row{131072, 1697.6, 4503.6, 1776.2, 1.79, 1.84}}) {
    const ModelPlan plan = plan_of("llama2-7b", "longgen-as", row.context);
    EXPECT_NEAR(plan.linear_flops * 1e-12, row.linear, 0.06);
    EXPECT_NEAR(plan.dense.attention_flops * 1e-12, row.dense, 0.06);
    EXPECT_NEAR(plan.planned.attention_flops * 1e-12, row.hybrid, 0.06);
    EXPECT_NEAR(plan.prefill_bound(), row.prefill, 6e-3);
    EXPECT_NEAR(plan.training_bound(), row.training, 6e-3);
  }
  const ModelPlan third = plan_of("llama2-7b", "longgen-as(n_full=11)", 131072);
  EXPECT_NEAR(third.prefill_bound(), 1.86, 6e-3);
  EXPECT_NEAR(third.training_bound(), 1.93, 6e-3);
  const ModelPlan large = plan_of("llama2-70b", "longgen-as", 131072);
  EXPECT_NEAR(large.linear_flops * 1e-12, 17944, 0.6);
  EXPECT_NEAR(large.dense.attention_flops * 1e-12, 22518, 0.6);
  EXPECT_NEAR(large.planned.attention_flops * 1e-12, 8881, 0.6);
  EXPECT_NEAR(large.prefill_bound(), 1.51, 6e-3);
  EXPECT_NEAR(large.training_bound(), 1.56, 6e-3);
}

TEST(ModelPlan, BytesAndTimeOfADecodingStep) {
  const ModelPlan plan = plan_of("llama2-7b", "longgen-as", 131072);
  EXPECT_NEAR(plan.dense.decode_bytes * 1e-9, 82.2, 0.06);
  EXPECT_NEAR(plan.planned.decode_bytes * 1e-9, 39.9, 0.06);
  EXPECT_NEAR(1e3 * plan.decode_seconds(plan.dense), 24.5, 0.06);
  EXPECT_NEAR(1e3 * plan.decode_seconds(plan.planned), 11.9, 0.06);
  const auto bound = [](const char* shape, std::int64_t context) {
    return plan_of(shape, "longgen-as", context).decode_bound();
  };
  EXPECT_NEAR(bound("llama2-7b", 131072), 2.06, 6e-3);
  EXPECT_NEAR(bound("llama2-7b", 65536), 1.77, 6e-3);
  EXPECT_NEAR(bound("llama2-7b", 32768), 1.49, 6e-3);
  EXPECT_NEAR(bound("llama2-7b", 16384), 1.27, 6e-3);
  EXPECT_NEAR(bound("llama2-70b", 131072), 1.17, 6e-3);
}

TEST(ModelPlan, ShapesHaveTheirParameters) {
  EXPECT_EQ(plan_of("llama2-7b", "", 64).num_parameters, 6738415616);
  EXPECT_EQ(plan_of("llama2-70b", "", 64).num_parameters, 68976648192);
  EXPECT_EQ(plan_of("mistral-7b", "", 64).num_parameters, 7241732096);
  EXPECT_EQ(plan_of("smollm2-135m", "", 64).num_parameters, 134515008);
  EXPECT_FALSE(named_shape("llama2-8b").has_value());
}

TEST(ModelPlan, ABatchMultipliesAllButTheWeights) {
  const ModelPlan one = plan_of("mistral-7b", "longgen-as", 4100);
  const ModelPlan four = plan_of("mistral-7b", "longgen-as", 4100, 4);
  EXPECT_EQ(four.planned.kv_bytes, 4 * one.planned.kv_bytes);
  EXPECT_DOUBLE_EQ(four.planned.attention_flops, 4 * one.planned.attention_flops);
  EXPECT_DOUBLE_EQ(four.linear_flops, 4 * one.linear_flops);
  EXPECT_EQ(four.weight_bytes, one.weight_bytes);
  EXPECT_GT(four.decode_bound(), one.decode_bound());
  EXPECT_DOUBLE_EQ(four.prefill_bound(), one.prefill_bound());
  // A page that is not full holds its tokens' bytes and no more.
  EXPECT_EQ(one.dense.kv_bytes, 4100 * 32 * 4096);
}

TEST(ModelPlan, WrongRequestsAreRefused) {
  EXPECT_THROW(plan_of("llama2-7b", "", 0), InvalidArgument);
  EXPECT_THROW(plan_of("llama2-7b", "", 64, 0), InvalidArgument);
  EXPECT_THROW(plan_of("llama2-7b", "", std::int64_t{1} << 40), InvalidArgument);
}

}  // namespace
}  // namespace perpend
