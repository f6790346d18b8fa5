#include "perpend/io/checkpoint.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/safetensors_writer.h"
#include "tests/io/hostile_bytes.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { folder_.add("config.json", R"({"model_type":"llama"})"); }

  void add_shard(std::string_view file, const std::vector<std::string>& names) {
    std::vector<TensorSpec> tensors;
    tensors.reserve(names.size());
    for (const std::string& name : names) tensors.push_back({name, BlockFormat::kF32, {1}});
    SafetensorsWriter writer(folder_.file(file), {}, tensors);
    for (const std::string& name : names) writer.write(name, std::vector<std::byte>(4));
    writer.finish();
  }
  std::string error() {
    return error_of([&] { Checkpoint::open(folder_.path()); });
  }
  std::string error_of_index(std::string_view index) {
    folder_.add(kIndex, index);
    return error();
  }

  TemporaryFolder folder_;
};

TEST_F(CheckpointTest, OpensAFolder) {
  add_shard("model.safetensors", {"w"});
  folder_.add("tokenizer.json", "tokens");
  folder_.add("chat_template.jinja", "{{ messages }}");
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.kind(), Checkpoint::Kind::kHuggingFace);
  EXPECT_EQ(checkpoint.config_json(), R"({"model_type":"llama"})");
  EXPECT_EQ(checkpoint.tokenizer_json(), "tokens");
  EXPECT_EQ(checkpoint.chat_template_text(), "{{ messages }}");
  EXPECT_EQ(checkpoint.generation_config_json(), "");
  EXPECT_NE(checkpoint.tensor("w"), nullptr);
  EXPECT_EQ(checkpoint.tensor("absent"), nullptr);
}

TEST_F(CheckpointTest, OpensShards) {
  add_shard("1.safetensors", {"a"});
  add_shard("2.safetensors", {"b"});
  folder_.add(kIndex, R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 2U);
  EXPECT_NE(checkpoint.tensor("b"), nullptr);
}

TEST_F(CheckpointTest, OpensAGgufFileAndKeepsItWhenMoved) {
  GgufMetadata metadata;
  metadata.set("general.architecture", "llama");
  GgufWriter writer(folder_.file("m.gguf"), metadata, {{"w", BlockFormat::kF32, {1}}});
  writer.write("w", std::vector<std::byte>(4));
  writer.finish();
  Checkpoint opened = Checkpoint::open(folder_.file("m.gguf"));
  const Checkpoint checkpoint = std::move(opened);
  EXPECT_EQ(checkpoint.kind(), Checkpoint::Kind::kGguf);
  EXPECT_EQ(checkpoint.gguf().require_string("general.architecture"), "llama");
  EXPECT_EQ(checkpoint.tensor("w")->bytes.size(), 4U);
}

TEST_F(CheckpointTest, NamesWhatIsMissing) {
  EXPECT_EQ(error_of([&] { Checkpoint::open(folder_.file("absent")); }),
            concat("model '", folder_.file("absent"), "': no such file or folder"));
  EXPECT_EQ(error(), folder_.file("model.safetensors") + ": No such file or directory");
  std::filesystem::remove(folder_.file("config.json"));
  EXPECT_THAT(error(), HasSubstr("the folder has no config.json"));
}

TEST_F(CheckpointTest, NamesTheMissingShard) {
  add_shard("1.safetensors", {"a"});
  EXPECT_EQ(error_of_index(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"),
            folder_.file("2.safetensors") + ": No such file or directory");
}

TEST_F(CheckpointTest, RefusesATensorInTwoShards) {
  add_shard("1.safetensors", {"a"});
  add_shard("2.safetensors", {"a", "b"});
  EXPECT_THAT(error_of_index(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"),
              HasSubstr("tensor 'a' is in two files"));
}

TEST_F(CheckpointTest, RefusesAWeightThatItsShardLacks) {
  add_shard("1.safetensors", {"a"});
  EXPECT_EQ(error_of_index(R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors"}})"),
            concat(folder_.file(kIndex), ": tensor 'b': 1.safetensors does not hold it"));
}

TEST_F(CheckpointTest, RefusesABadIndex) {
  const std::string start = folder_.file(kIndex) + ": ";
  EXPECT_THAT(error_of_index("{"), HasSubstr(start + "not valid JSON"));
  EXPECT_EQ(error_of_index("{}"), start + "key 'weight_map': expected an object");
  EXPECT_EQ(error_of_index(R"({"weight_map":[]})"), start + "key 'weight_map': expected an object");
  EXPECT_EQ(error_of_index(R"({"weight_map":{}})"), start + "key 'weight_map': names no weights");
  for (const std::string_view name : {R"("")", "1", R"("../x")", R"("/etc/passwd")", R"("a/b")"}) {
    EXPECT_EQ(error_of_index(concat(R"({"weight_map":{"t":)", name, "}}")),
              start + "tensor 't': expected the name of a file in the folder");
  }
}

TEST_F(CheckpointTest, RefusesAShardThatIsNoSafetensorsFile) {
  folder_.add("model.safetensors", "not a model");
  EXPECT_THAT(error(), HasSubstr(folder_.file("model.safetensors") + ": header length: "));
}

}  // namespace
}  // namespace perpend
