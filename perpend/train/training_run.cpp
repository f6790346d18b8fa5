#include "perpend/train/training_run.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/nn/device_scope.h"
#include "perpend/nn/torch_threads.h"
#include "perpend/train/evaluation.h"
#include "perpend/train/model_folder.h"
#include "perpend/train/noised_copies.h"

namespace perpend {
namespace {

// Streams of the run's seed, so that data and weights are drawn apart.
constexpr std::uint64_t kAdapterSeed = 0x6C6F7261;

// Of parts that are one tensor.
std::string joined_name(const std::vector<NamedParameter::Part>& parts, std::string_view suffix) {
  std::string name;
  for (const NamedParameter::Part& part : parts) {
    name += concat(name.empty() ? "" : "+", part.name, suffix);
  }
  return name;
}

}  // namespace

TrainingRun::TrainingRun(TrainConfig config)
    : config_(std::move(config)), runtime_(config_.device, config_.threads) {
  const DeviceScope scope(runtime_.context());
  lend_threads_to_torch(runtime_);
  model_ = open_model(config_.model, config_.loop.seed, runtime_.context());
  if (config_.diffusion) prepare_diffusion(*config_.diffusion);
  std::vector<TrainedTensor> trained = choose_trained();
  trainer_ = std::make_unique<Trainer>(*model_.llama, std::move(trained),
                                       open_dataset(config_.data, model_.checkpoint),
                                       config_.losses, model_.layer_masks, config_.trainer);
  if (config_.evaluation) {
    evaluation_data_ = open_dataset({.path = config_.evaluation->path}, model_.checkpoint);
  }
}

void TrainingRun::prepare_diffusion(DiffusionRecipe& recipe) {
  resolve_tokens(recipe, model_.checkpoint ? &*model_.checkpoint : nullptr);
  const std::int32_t mask_token_id = recipe.options.mask_token_id;
  check(mask_token_id < model_.llama->config().vocab_size,
        concat("diffusion: the mask token ", mask_token_id, " is outside the vocabulary of ",
               model_.llama->config().vocab_size));
  check(!model_.llama->config().longgen,
        "diffusion: the model's layers have masks of their own, which no noised copy can follow");
  config_.data.padding = recipe.padding();
  config_.trainer.batch.transform = std::make_shared<NoisedCopies>(recipe.options);
  if (!recipe.has_mean_mask_row) return;
  const at::NoGradGuard no_grad;
  const torch::Tensor embedding = model_.llama->embedding_weight();
  embedding.select(0, mask_token_id).copy_(embedding.to(torch::kFloat32).mean(0));
}

std::vector<TrainedTensor> TrainingRun::choose_trained() {
  if (config_.lora) return add_lora(*model_.llama, *config_.lora, config_.loop.seed ^ kAdapterSeed);
  std::vector<TrainedTensor> trained;
  for (const auto& [parts, tensor] : model_.llama->named_parameters()) {
    trained.push_back({joined_name(parts, ""), tensor});
  }
  if (!config_.trains_matrices_only) return trained;
  for (const TrainedTensor& all : trained) all.tensor.requires_grad_(false);
  trained.clear();
  for (const auto& [parts, linear] : model_.llama->layer_linears()) {
    trained.push_back({joined_name(parts, ".weight"), linear->weight()});
  }
  return trained;
}

TargetScore TrainingRun::evaluate_now() const {
  return evaluate(*model_.llama, evaluation_data_, model_.layer_masks,
                  {.batch_tokens = config_.evaluation->batch_tokens}, [](std::int64_t) {})
      .all;
}

bool TrainingRun::run(LoopProgress progress) {
  const DeviceScope scope(runtime_.context());
  LoopOptions loop = config_.loop;
  if (evaluation_data_) {
    loop.evaluate_every = config_.evaluation->every;
    loop.stop_at = config_.evaluation->stop_at;
    loop.evaluate = [this] { return evaluate_now(); };
  }
  if (!run_training(*trainer_, loop, progress)) return false;
  write_result();
  return true;
}

std::string TrainingRun::result_path() const {
  return config_.loop.out + (config_.lora ? "/adapter" : "/model");
}

void TrainingRun::write_result() const {
  const std::string diffusion_json = config_.diffusion ? config_.diffusion->model_json() : "";
  if (config_.lora) {
    AdapterTexts texts{.base = config_.model.path, .diffusion_json = diffusion_json};
    if (config_.diffusion && config_.diffusion->has_mean_mask_row) {
      texts.tokens = {config_.diffusion->options.mask_token_id};
    }
    write_lora(result_path(), texts, *config_.lora, *model_.llama, trained());
    return;
  }
  write_model_folder(result_path(), *model_.llama,
                     {.source = model_.checkpoint ? &*model_.checkpoint : nullptr,
                      .config_json = config_.model.config_json,
                      .diffusion_json = diffusion_json});
}

}  // namespace perpend
