#include "perpend/train/config_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "perpend/train/train_config.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;

template <class F>
std::string config_error(F f) {
  try {
    f();
    return "";
  } catch (const IoError& error) {
    return error.what();
  }
}

TEST(ConfigTable, ReadsEveryKindOfValue) {
  const ConfigTable root = ConfigTable::parse(
      "a = 3\nb = 1.5\nc = \"text\"\nd = true\ne = [\"x\", \"y\"]\n[t]\nf = 2\n[[l]]\ng = "
      "1\n[[l]]\n",
      "run.toml");
  EXPECT_EQ(root.integer("a", 0, 9), 3);
  EXPECT_EQ(root.number("a", 0, 9), 3.0);
  EXPECT_EQ(root.number("b", 0, 9), 1.5);
  EXPECT_EQ(root.text("c"), "text");
  EXPECT_TRUE(root.flag("d", false));
  EXPECT_EQ(root.texts("e", {}).size(), 2U);
  EXPECT_EQ(root.table("t").integer("f", 0, 9), 2);
  EXPECT_EQ(root.tables("l").size(), 2U);
  EXPECT_EQ(root.tables("l")[0].integer("g", 0, 9), 1);
  EXPECT_EQ(root.integer("h", 0, 9, 7), 7);
  EXPECT_NO_THROW(root.check_all_read());
}

TEST(ConfigTable, ErrorsNameFileLineTableAndKey) {
  const ConfigTable root = ConfigTable::parse("a = \"x\"\n[t]\nlerning_rate = 1\n", "run.toml");
  EXPECT_EQ(config_error([&] { root.integer("a", 0, 9); }),
            "run.toml:1: a: expected an integer from 0 to 9, found \"x\"");
  EXPECT_EQ(config_error([&] { root.integer("b", 0, 9); }), "run.toml: b: this key is missing");
  const ConfigTable table = root.table("t");
  table.number("learning_rate", 0, 1, 0.5);
  EXPECT_EQ(config_error([&] { table.check_all_read(); }),
            "run.toml:3: [t] unknown key 'lerning_rate', did you mean 'learning_rate'?");
  EXPECT_EQ(config_error([&] { table.integer("lerning_rate", 2, 3); }),
            "run.toml:3: [t] lerning_rate: expected an integer from 2 to 3, found 1");
  EXPECT_THAT(config_error([] { ConfigTable::parse("a = 1\nb = = 2\n", "run.toml"); }),
              HasSubstr("run.toml:2: not valid TOML"));
}

constexpr const char* kWhole = R"(
out = "run"
steps = 10
[model.shape]
vocab_size = 50
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
[data]
path = "data"
batch_tokens = 100
[optimizer]
learning_rate = 1e-3
)";

TEST(TrainConfig, HasDefaultsAndRefusesWhatItDoesNotKnow) {
  const TemporaryFolder folder;
  const TrainConfig config = read_train_config(folder.add("run.toml", kWhole));
  EXPECT_EQ(config.losses.size(), 1U);
  EXPECT_EQ(config.losses[0].loss->name(), "next_token");
  EXPECT_EQ(config.trainer.learning_rate.num_steps, 10);
  EXPECT_EQ(config.trainer.optimizer.clip_norm, 1.0);
  EXPECT_FALSE(config.lora);
  const auto error_with = [&](const std::string& before, const std::string& after) {
    const std::string path = folder.add("bad.toml", before + kWhole + after);
    return config_error([&] { read_train_config(path); });
  };
  EXPECT_THAT(error_with("stpes = 3", ""),
              HasSubstr("bad.toml:1: unknown key 'stpes', did you mean"));
  EXPECT_THAT(error_with("", "betta1 = 0.5"), HasSubstr("[optimizer] unknown key 'betta1'"));
  EXPECT_THAT(error_with("", "beta1 = 2.0"), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(error_with("", "[lora]\nrnak = 1"),
              HasSubstr("[lora] unknown key 'rnak', did you mean 'rank'?"));
  EXPECT_THAT(error_with("", "[lora]\nalpha = 1"), HasSubstr("[lora] rank: this key is missing"));
  EXPECT_THAT(error_with("", "[[loss]]\nkind = \"next\""),
              HasSubstr("[loss[0]] kind: unknown value"));
  EXPECT_THAT(error_with("", "[[loss]]\nkind = \"blockrank\"\nlayer = 1\ntua = 1"),
              HasSubstr("did you mean 'tau'?"));
  EXPECT_THAT(error_with("", "[data2]"), HasSubstr("unknown key 'data2', did you mean"));
  EXPECT_THAT(error_with("", "[lorra]"), HasSubstr("unknown key 'lorra', did you mean 'lora'?"));
}

// The examples of the guide, in their order.
std::vector<TrainConfig> guide_configs() {
  const std::string guide = read_text_file(TRAINING_GUIDE);
  const TemporaryFolder folder;
  std::vector<TrainConfig> configs;
  for (std::size_t begin = guide.find("```toml\n"); begin != std::string::npos;
       begin = guide.find("```toml\n", begin)) {
    begin += 8;
    const std::string text = guide.substr(begin, guide.find("```", begin) - begin);
    configs.push_back(read_train_config(folder.add("guide.toml", text)));
  }
  return configs;
}

TEST(TrainConfig, ReadsTheExamplesOfTheGuide) {
  const std::vector<TrainConfig> configs = guide_configs();
  ASSERT_EQ(configs.size(), 3U);
  EXPECT_EQ(configs[0].loop.out, "runs/recall");
  EXPECT_EQ(configs[0].trainer.learning_rate.end, 1e-4);
  EXPECT_FALSE(configs[0].diffusion);

  const DiffusionRecipe& block = configs[1].diffusion.value();
  EXPECT_EQ(block.options.attention, DiffusionAttention::kBlock);
  EXPECT_EQ(block.options.block_size.at(0), 16);
  EXPECT_EQ(block.options.views, 2);
  EXPECT_TRUE(block.options.first_of_block && block.options.shift && block.pads_blocks);
  EXPECT_EQ(block.mask_token, "<empty_output>");
  EXPECT_EQ(block.padding().multiple, 16);
  EXPECT_EQ(configs[1].losses.at(0).loss->name(), "masked_token");

  const DiffusionRecipe& grown = configs[2].diffusion.value();
  EXPECT_EQ(grown.options.views, 1);
  EXPECT_FALSE(grown.options.first_of_block);
  EXPECT_TRUE(grown.options.clean_targets);
  EXPECT_EQ(grown.options.block_size.at(89), 4);
  EXPECT_EQ(grown.options.block_size.at(120), 16);
  EXPECT_EQ(configs[2].losses.at(1).weight, 0.5);
}

TEST(TrainConfig, ReadsDiffusionWithoutBlocks) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& keys) {
    const std::string table = "[diffusion]\nattention = \"full\"\nmask_token_id = 3\n";
    return *read_train_config(folder.add("run.toml", kWhole + table + keys)).diffusion;
  };
  const DiffusionRecipe plain = read("");
  EXPECT_TRUE(plain.options.inverse_weight && plain.options.shift);
  EXPECT_EQ(plain.options.noise_unit, NoisingOptions::NoiseUnit::kSequence);
  EXPECT_EQ(plain.padding().multiple, 1);
  EXPECT_EQ(plain.padding().weight, 0.0F);
  const DiffusionRecipe canvas = read("canvas_tokens = 64\ncanvas_token_id = 2\nviews = 2");
  EXPECT_FALSE(canvas.options.inverse_weight);
  EXPECT_EQ(canvas.padding().length, 64);
  EXPECT_EQ(canvas.padding().token, 2);
  EXPECT_EQ(canvas.padding().weight, 1.0F);
  EXPECT_THROW(read("canvas_tokens = 64").padding(), InvalidArgument);
  EXPECT_EQ(read("max_weight = 5.0").options.max_weight, 5);
}

TEST(TrainConfig, RefusesDiffusionThatDoesNotFit) {
  const TemporaryFolder folder;
  const auto error_with = [&](const std::string& keys, const std::string& before = "",
                              const std::string& after = "") {
    const std::string table = "[diffusion]\nmask_token_id = 3\n" + keys + "\n";
    const std::string path = folder.add("bad.toml", before + kWhole + table + after);
    return config_error([&] { read_train_config(path); });
  };
  const std::string block = "attention = \"block\"";
  const std::string full = "attention = \"full\"";
  EXPECT_EQ(error_with(block), "");
  EXPECT_THAT(error_with(""), HasSubstr("[diffusion] attention: this key is missing"));
  EXPECT_THAT(error_with("attention = \"blok\""), HasSubstr("did you mean 'block'?"));
  EXPECT_THAT(error_with(block + "\nvews = 2"), HasSubstr("did you mean 'views'?"));
  EXPECT_THAT(error_with(block + "\nmask_token = \"<m>\""), HasSubstr("either mask_token or"));
  EXPECT_THAT(error_with(block + "\ngrow_from = 1"), HasSubstr("grow_every: this key is missing"));
  EXPECT_THAT(error_with(block + "\ncanvas_tokens = 8"), HasSubstr("attention = \"full\""));
  EXPECT_THAT(error_with(block + "\nmax_weight = 5.0"), HasSubstr("weighting = \"1/p\" beside"));
  EXPECT_THAT(error_with(block + "\nweighting = \"1/p\""), HasSubstr("count each token once"));
  EXPECT_THAT(error_with(full + "\nblock_size = 8"), HasSubstr("block_size: has no meaning"));
  EXPECT_THAT(error_with(full + "\ncanvas_token_id = 8"), HasSubstr("canvas_tokens beside"));
  EXPECT_THAT(error_with(block, "", "[lora]\nrank = 2"), "");
  EXPECT_THAT(error_with(block, "trained = \"matrices\"\n", ""), "");
  EXPECT_THAT(error_with(block, "trained = \"matrices\"\n", "[lora]\nrank = 2"),
              HasSubstr("excludes [lora]"));
  EXPECT_THAT(error_with(block, "", "[[loss]]\nkind = \"next_token\""),
              HasSubstr("needs a causal clean copy"));
  EXPECT_THAT(error_with(block, "", "[[loss]]\nkind = \"blockrank\"\nlayer = 0"),
              HasSubstr("excludes [diffusion]"));
  const std::string masked =
      folder.add("m.toml", std::string(kWhole) + "[[loss]]\nkind = \"masked_token\"");
  EXPECT_THAT(config_error([&] { read_train_config(masked); }), HasSubstr("needs [diffusion]"));
  std::string layers = kWhole;
  layers.insert(layers.find("[model.shape]"), "[model]\nlayers = \"causal\"\n");
  const std::string table = "[diffusion]\nmask_token_id = 3\nattention = \"block\"\n";
  EXPECT_THAT(config_error([&] { read_train_config(folder.add("l.toml", layers + table)); }),
              HasSubstr("excludes masks of layers"));
  std::string chunks = kWhole;
  chunks.insert(chunks.find("batch_tokens"), "chunk_tokens = 72\n");
  EXPECT_THAT(config_error([&] { read_train_config(folder.add("c.toml", chunks + table)); }),
              HasSubstr("chunk_tokens: expected whole blocks of 32"));
}

}  // namespace
}  // namespace perpend
