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

TEST(TrainConfig, ReadsTheExampleOfTheGuide) {
  const std::string guide = read_text_file(TRAINING_GUIDE);
  const std::size_t begin = guide.find("```toml\n") + 8;
  const TemporaryFolder folder;
  const std::string path =
      folder.add("recall.toml", guide.substr(begin, guide.find("```", begin) - begin));
  const TrainConfig config = read_train_config(path);
  EXPECT_EQ(config.loop.out, "runs/recall");
  EXPECT_EQ(config.trainer.learning_rate.end, 1e-4);
}

}  // namespace
}  // namespace perpend
