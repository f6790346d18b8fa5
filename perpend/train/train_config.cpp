#include "perpend/train/train_config.h"

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/nn/device_choice.h"
#include "perpend/train/block_rank_loss.h"
#include "perpend/train/config_table.h"
#include "perpend/train/masked_token_loss.h"
#include "perpend/train/next_token_loss.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;
constexpr int kMaxSize = 1 << 24;
constexpr double kHopperPeakTflops = 989.0;  // of an H100 SXM, dense bf16

int size_of(const ConfigTable& table, const std::string& key,
            std::optional<std::int64_t> otherwise) {
  return static_cast<int>(table.integer(key, 1, kMaxSize, otherwise));
}

// The keys of config.json, from a table.
std::string read_shape(const ConfigTable& table) {
  const int num_q_heads = size_of(table, "num_attention_heads", {});
  const int model_dim = size_of(table, "hidden_size", {});
  nlohmann::json json;
  json["model_type"] = table.choice("model_type", {"llama", "mistral", "qwen2"}, "llama");
  json["architectures"] = {json["model_type"] == "llama"     ? "LlamaForCausalLM"
                           : json["model_type"] == "mistral" ? "MistralForCausalLM"
                                                             : "Qwen2ForCausalLM"};
  json["vocab_size"] = size_of(table, "vocab_size", {});
  json["hidden_size"] = model_dim;
  json["intermediate_size"] = size_of(table, "intermediate_size", {});
  json["num_hidden_layers"] = size_of(table, "num_hidden_layers", {});
  json["num_attention_heads"] = num_q_heads;
  json["num_key_value_heads"] = size_of(table, "num_key_value_heads", num_q_heads);
  json["head_dim"] = size_of(table, "head_dim", std::max(1, model_dim / num_q_heads));
  json["max_position_embeddings"] =
      table.integer("max_position_embeddings", 1, kMaxCount, std::int64_t{2048});
  json["rope_theta"] = table.number("rope_theta", 1.0, 1e12, 10000.0);
  json["rms_norm_eps"] = table.number("rms_norm_eps", 1e-12, 1.0, 1e-5);
  json["tie_word_embeddings"] = table.flag("tie_word_embeddings", false);
  json["hidden_act"] = "silu";
  json["sliding_window"] = nullptr;
  table.check_all_read();
  return json.dump(2) + "\n";
}

ModelSource read_model(const ConfigTable& table, const std::string& default_dtype) {
  ModelSource source;
  source.path = table.text("path", "");
  const ConfigTable shape = table.table("shape");
  source.dtype = table.choice("dtype", {"f32", "bf16"}, default_dtype);
  source.layers = table.text("layers", "");
  source.changes.preset = table.text("preset", "");
  // 0: as the model says.
  const double rope_theta = table.number("rope_theta", 0.0, 1e12, 0.0);
  if (rope_theta > 0) source.changes.rope_theta = static_cast<float>(rope_theta);
  const std::int64_t context_length = table.integer("context_length", 0, kMaxCount, 0);
  if (context_length > 0) source.changes.context_length = context_length;
  const std::int64_t num_layers = table.integer("num_layers", 0, kMaxSize, 0);
  if (num_layers > 0) source.changes.num_layers = static_cast<int>(num_layers);
  table.check_all_read();
  if (table.has("shape") == !source.path.empty()) {
    table.fail("path", "expected either path (weights to start from) or [model.shape]");
  }
  if (!source.layers.empty() && !source.changes.preset.empty()) {
    table.fail("preset", "excludes layers: both say what the layers see");
  }
  if (table.has("shape")) source.config_json = read_shape(shape);
  return source;
}

std::optional<LoraOptions> read_lora_options(const ConfigTable& root) {
  if (!root.has("lora")) return std::nullopt;
  const ConfigTable table = root.table("lora");
  LoraOptions options;
  options.rank = static_cast<int>(table.integer("rank", 1, 1 << 16));
  options.alpha = table.number("alpha", 1e-6, 1e6, 2.0 * options.rank);
  options.targets = table.texts("targets", lora_targets());
  table.check_all_read();
  return options;
}

DataSource read_data(const ConfigTable& table, BatchOptions& batch) {
  DataSource source;
  source.path = table.text("path");
  source.chunk_tokens = table.integer("chunk_tokens", 0, kMaxCount, 0);
  batch.sequences = table.integer("batch_sequences", 0, kMaxCount, 0);
  batch.tokens = table.integer("batch_tokens", 0, kMaxCount, 0);
  batch.shuffle = table.flag("shuffle", true);
  table.check_all_read();
  if ((batch.sequences > 0) == (batch.tokens > 0)) {
    table.fail("batch_tokens", "expected either batch_tokens or batch_sequences, positive");
  }
  return source;
}

std::optional<RunEvaluation> read_evaluation(const ConfigTable& root,
                                             std::int64_t default_batch_tokens) {
  if (!root.has("evaluation")) return std::nullopt;
  const ConfigTable table = root.table("evaluation");
  RunEvaluation evaluation;
  evaluation.path = table.text("path");
  evaluation.every = table.integer("every", 0, kMaxCount, 0);
  evaluation.stop_at = table.number("stop_at", 0.0, 1.0, evaluation.stop_at);
  evaluation.batch_tokens = table.integer("batch_tokens", 1, kMaxCount, default_batch_tokens);
  table.check_all_read();
  return evaluation;
}

void read_optimizer(const ConfigTable& table, std::int64_t num_steps, TrainerOptions& options) {
  LearningRate& rate = options.learning_rate;
  rate.peak = table.number("learning_rate", 0.0, 1e3);
  rate.shape = table.choice("schedule", {"constant", "cosine"}, "cosine") == "cosine"
                   ? LearningRate::Shape::kCosine
                   : LearningRate::Shape::kConstant;
  rate.end = table.number("final_learning_rate", 0.0, 1e3, 0.0);
  rate.warmup_steps = table.integer("warmup_steps", 0, num_steps, 0);
  rate.num_steps = num_steps;
  Optimizer::Options& adamw = options.optimizer;
  adamw.beta1 = table.number("beta1", 0.0, 1.0, adamw.beta1);
  adamw.beta2 = table.number("beta2", 0.0, 1.0, adamw.beta2);
  adamw.epsilon = table.number("epsilon", 0.0, 1.0, adamw.epsilon);
  adamw.weight_decay = table.number("weight_decay", 0.0, 1e3, 0.0);
  adamw.clip_norm = table.number("clip_norm", 0.0, 1e9, 1.0);
  table.check_all_read();
}

RankSource read_rank(const ConfigTable& table, double weight) {
  RankSource rank;
  rank.layer = static_cast<int>(table.integer("layer", 0, kMaxSize));
  rank.lambda = weight;
  rank.tau = table.number("tau", 1e-6, 1e6, 0.05);
  rank.query_pos_offset = table.integer("query_pos_offset", 0, kMaxCount, 0);
  rank.chunk_len = table.integer("chunk_len", 0, kMaxCount, 0);
  return rank;
}

WeightedLoss read_loss(const ConfigTable& table, const std::string& kind,
                       std::optional<RankSource>& rank) {
  WeightedLoss result;
  result.weight = table.number("weight", 0.0, 1e6, kind == "blockrank" ? 0.1 : 1.0);
  if (kind == "blockrank") {
    rank = read_rank(table, result.weight);
    result.loss = std::make_shared<BlockRankLoss>(rank->layer, rank->tau);
  } else if (kind == "masked_token") {
    result.loss = std::make_shared<MaskedTokenLoss>();
  } else {
    result.loss = std::make_shared<NextTokenLoss>();
  }
  table.check_all_read();
  return result;
}

// Losses that have nothing to read in what a recipe makes of the data.
void check_kind(const ConfigTable& table, const std::string& kind,
                const std::optional<DiffusionRecipe>& diffusion) {
  if (!diffusion) {
    if (kind == "masked_token") table.fail("kind", "masked_token needs [diffusion]");
    return;
  }
  if (kind == "blockrank") table.fail("kind", "blockrank excludes [diffusion]");
  if (kind == "next_token" && diffusion->options.attention != DiffusionAttention::kContextCausal) {
    table.fail("kind",
               "next_token needs a causal clean copy: [diffusion] attention = \"context_causal\"");
  }
}

std::vector<WeightedLoss> read_losses(const ConfigTable& root,
                                      std::optional<DiffusionRecipe>& diffusion,
                                      std::optional<RankSource>& rank) {
  std::vector<WeightedLoss> losses;
  for (const ConfigTable& table : root.tables("loss")) {
    const std::string kind = table.choice("kind", {"next_token", "blockrank", "masked_token"});
    check_kind(table, kind, diffusion);
    losses.push_back(read_loss(table, kind, rank));
    if (diffusion && kind == "next_token") diffusion->options.clean_targets = true;
  }
  if (!losses.empty()) return losses;
  if (diffusion) return {{std::make_shared<MaskedTokenLoss>(), 1.0}};
  return {{std::make_shared<NextTokenLoss>(), 1.0}};
}

// What other tables say must fit.
void check_diffusion(const ConfigTable& root, const DiffusionRecipe& recipe,
                     const TrainConfig& config) {
  if (!config.model.layers.empty() || !config.model.changes.preset.empty()) {
    root.fail("diffusion", "excludes masks of layers: what they see follows from it");
  }
  const std::int64_t block_size = recipe.options.block_size.last;
  if (config.data.chunk_tokens % block_size != 0) {
    root.table("data").fail("chunk_tokens", concat("expected whole blocks of ", block_size));
  }
  if (config.data.chunk_tokens > 0 && recipe.canvas_tokens > 0) {
    root.table("data").fail("chunk_tokens", "excludes canvas_tokens, which gives texts a length");
  }
}

}  // namespace

TrainConfig read_train_config(const std::string& path) {
  const ConfigTable root = ConfigTable::open(path);
  TrainConfig config;
  config.device = choose_device(root.text("device", "cpu"));
  config.threads = static_cast<int>(root.integer("threads", 0, 4096, 0));
  const bool on_gpu = config.device.type == DeviceType::kCuda;
  LoopOptions& loop = config.loop;
  loop.out = root.text("out");
  loop.num_steps = root.integer("steps", 1, kMaxCount);
  loop.seed = static_cast<std::uint64_t>(root.integer("seed", 0, kMaxCount, 0));
  loop.state_every = root.integer("state_every", 0, kMaxCount, 0);
  loop.keep_states = static_cast<int>(root.integer("keep_states", 1, 1000, 2));
  loop.log_every = root.integer("log_every", 1, kMaxCount, 1);
  loop.peak_flops = 1e12 * root.number("peak_tflops", 0.0, 1e6, on_gpu ? kHopperPeakTflops : 0.0);
  config.model = read_model(root.table("model"), on_gpu ? "bf16" : "f32");
  config.lora = read_lora_options(root);
  config.trains_matrices_only = root.choice("trained", {"all", "matrices"}, "all") == "matrices";
  if (config.lora && config.trains_matrices_only) {
    root.fail("trained", "excludes [lora], which trains adapters alone");
  }
  config.data = read_data(root.table("data"), config.trainer.batch);
  const std::int64_t batch_tokens = config.trainer.batch.tokens;
  config.evaluation =
      read_evaluation(root, batch_tokens > 0 ? batch_tokens : EvaluationOptions{}.batch_tokens);
  config.trainer.batch.seed = loop.seed;
  config.trainer.accumulation = static_cast<int>(root.integer("accumulation", 1, 1 << 20, 1));
  config.trainer.recompute = root.flag("recompute", false);
  read_optimizer(root.table("optimizer"), loop.num_steps, config.trainer);
  config.diffusion = read_diffusion_recipe(root);
  if (config.diffusion) {
    config.diffusion->options.seed = loop.seed;
    check_diffusion(root, *config.diffusion, config);
  }
  config.losses = read_losses(root, config.diffusion, config.model.rank);
  root.check_all_read();
  return config;
}

}  // namespace perpend
