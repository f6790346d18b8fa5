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
#include "perpend/train/noised_copies.h"
#include "perpend/train/padded_dataset.h"
#include "perpend/train/sequence_folder.h"
#include "perpend/train/text_dataset.h"

namespace perpend {
namespace {

// Streams of the run's seed, so that data and weights are drawn apart.
constexpr std::uint64_t kAdapterSeed = 0x6C6F7261;

}  // namespace

TrainingRun::TrainingRun(TrainConfig config)
    : config_(std::move(config)), runtime_(config_.device, config_.threads) {
  const DeviceScope scope(runtime_.context());
  // Training lives in LibTorch, whose threads inference holds back.
  at::set_num_threads(runtime_.num_threads());
  model_ = make_model();
  if (config_.diffusion) prepare_diffusion(*config_.diffusion);
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
  const WeightForm form = source.dtype == "bf16" ? torch::kBFloat16 : torch::kFloat32;
  if (source_) {
    return std::make_unique<Llama>(config, WeightReader(*source_, config), form,
                                   runtime_.context());
  }
  return std::make_unique<Llama>(config, RandomWeights(config, config_.loop.seed), form,
                                 runtime_.context());
}

void TrainingRun::prepare_diffusion(DiffusionRecipe& recipe) {
  resolve_tokens(recipe, source_ ? &*source_ : nullptr);
  const std::int32_t mask_token_id = recipe.options.mask_token_id;
  check(mask_token_id < model_->config().vocab_size,
        concat("diffusion: the mask token ", mask_token_id, " is outside the vocabulary of ",
               model_->config().vocab_size));
  check(!model_->config().longgen,
        "diffusion: the model's layers have masks of their own, which no noised copy can follow");
  config_.trainer.batch.transform = std::make_shared<NoisedCopies>(recipe.options);
  if (!recipe.has_mean_mask_row) return;
  const at::NoGradGuard no_grad;
  const torch::Tensor embedding = model_->named_parameters().front().tensor;  // of tokens
  embedding.select(0, mask_token_id).copy_(embedding.to(torch::kFloat32).mean(0));
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
  using LastRow = ChunkedDataset::LastRow;
  LastRow last_row = LastRow::kNextChunk;
  if (config_.diffusion) {
    data = std::make_shared<PaddedDataset>(std::move(data), config_.diffusion->padding());
    last_row = LastRow::kNothing;
  }
  if (source.chunk_tokens == 0) return data;
  return std::make_shared<ChunkedDataset>(std::move(data), source.chunk_tokens, last_row);
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
