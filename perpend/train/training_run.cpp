#include "perpend/train/training_run.h"

#include <utility>

#include <ATen/Parallel.h>

#include "perpend/core/error.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/loaded_model.h"
#include "perpend/models/random_weights.h"
#include "perpend/models/text_side.h"
#include "perpend/nn/device_scope.h"
#include "perpend/train/chunked_dataset.h"
#include "perpend/train/memory_dataset.h"
#include "perpend/train/model_folder.h"
#include "perpend/train/sequence_folder.h"
#include "perpend/train/text_dataset.h"

namespace perpend {
namespace {

// Streams of the run's seed, so that data and weights are drawn apart.
constexpr std::uint64_t kAdapterSeed = 0x6C6F7261;

// How the trained model is to rank.
BlockRankConfig ranking_of(const RankSource& source, const ModelConfig& config) {
  BlockRankConfig rank = blockrank_config(config);
  rank.layer = source.layer;
  rank.lambda = static_cast<float>(source.lambda);
  rank.tau = static_cast<float>(source.tau);
  if (source.query_pos_offset > 0) rank.query_pos_offset = source.query_pos_offset;
  if (source.chunk_len > 0) rank.chunk_len = source.chunk_len;
  return rank;
}

}  // namespace

TrainingRun::TrainingRun(TrainConfig config)
    : config_(std::move(config)), runtime_(config_.device, config_.threads) {
  const DeviceScope scope(runtime_.context());
  // Training lives in LibTorch, whose threads inference holds back.
  at::set_num_threads(runtime_.num_threads());
  model_ = make_model();
  std::vector<TrainedTensor> trained = choose_trained();
  const std::string& layers = config_.model.layers;
  const auto masks = layers.empty() ? default_masks(model_->config())
                                    : parse_layer_masks(layers, model_->config().num_layers);
  trainer_ = std::make_unique<Trainer>(*model_, std::move(trained), open_data(), config_.losses,
                                       masks, config_.trainer);
}

std::unique_ptr<Llama> TrainingRun::make_model() {
  const ModelSource& source = config_.model;
  ModelConfig config;
  if (source.path.empty()) {
    config = parse_model_config(source.config_json, config_.loop.out + "/config.json");
  } else {
    source_ = Checkpoint::open(resolve_model_path(source.path));
    config = read_model_config(*source_);
  }
  config = changed(std::move(config), source.changes);
  if (config_.rank) config.blockrank = ranking_of(*config_.rank, config);
  const WeightForm form = source.dtype == "bf16" ? torch::kBFloat16 : torch::kFloat32;
  if (source_) {
    return std::make_unique<Llama>(config, WeightReader(*source_, config), form,
                                   runtime_.context());
  }
  return std::make_unique<Llama>(config, RandomWeights(config, config_.loop.seed), form,
                                 runtime_.context());
}

std::vector<TrainedTensor> TrainingRun::choose_trained() {
  if (config_.lora) return add_lora(*model_, *config_.lora, config_.loop.seed ^ kAdapterSeed);
  std::vector<TrainedTensor> trained;
  for (const auto& [parts, tensor] : model_->named_parameters()) {
    std::string name;
    for (const NamedParameter::Part& part : parts) name += (name.empty() ? "" : "+") + part.name;
    trained.push_back({name, tensor});
  }
  return trained;
}

std::shared_ptr<const Dataset> TrainingRun::open_data() const {
  const DataSource& source = config_.data;
  std::shared_ptr<const Dataset> data;
  if (source.path.ends_with(".jsonl")) {
    check(source_.has_value(),
          concat(source.path, ": text needs the tokenizer of a model: give model.path"));
    const auto tokenizer = read_tokenizer(*source_);
    const auto end = read_special_token_ids(*source_, *tokenizer).eos;
    data = std::make_shared<MemoryDataset>(read_text_examples(source.path, *tokenizer, end));
  } else {
    data = std::make_shared<SequenceFolder>(source.path);
  }
  if (source.chunk_tokens == 0) return data;
  return std::make_shared<ChunkedDataset>(std::move(data), source.chunk_tokens);
}

bool TrainingRun::run(LoopProgress progress) {
  const DeviceScope scope(runtime_.context());
  if (!run_training(*trainer_, config_.loop, progress)) return false;
  write_result();
  return true;
}

std::string TrainingRun::result_path() const {
  return config_.loop.out + (config_.lora ? "/adapter" : "/model");
}

void TrainingRun::write_result() const {
  if (config_.lora) {
    write_lora(result_path(), config_.model.path, *config_.lora, *model_, trained());
    return;
  }
  write_model_folder(
      result_path(), *model_,
      {.source = source_ ? &*source_ : nullptr, .config_json = config_.model.config_json});
}

}  // namespace perpend
