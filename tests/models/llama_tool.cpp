// Runs networks for the oracle test, every weight in f32:
//   llama run MODEL RUNS.json   a network in several ways
//   llama diffuse MODEL RUNS.json  answers of a diffusion model, see diffusion_runs.h
//   llama load MODEL...         a list of the errors, empty where a model can be read
//
// RUNS.json is a list of {"sequences": [[token, ...], ...], "chunk": rows of a sequence a pass,
// "layers": masks, empty for the model's own, "retain": whether keys that no later token sees are
// freed}. The sequences of a run share each pass. Prints a list with one object a run: {"logits":
// [sequence][token][id], "kv_bytes": held after the last pass}.

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "perpend/cache/retained_policy.h"
#include "perpend/io/text_file.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"
#include "perpend/nn/runtime.h"
#include "tests/models/diffusion_runs.h"
#include "tests/models/load_errors.h"

namespace perpend::llama_tool {
namespace {

using nlohmann::json;
using Tokens = std::vector<std::int32_t>;

std::vector<Mask> masks_of(const std::string& layers, const ModelConfig& config) {
  return layers.empty() ? default_masks(config) : parse_layer_masks(layers, config.num_layers);
}

// The sequences of one run, all as far as their caches go.
class Run {
 public:
  Run(const Llama& model, const json& spec, Context& context)
      : model_(model),
        context_(context),
        tokens_(spec["sequences"].get<std::vector<Tokens>>()),
        chunk_(spec["chunk"].get<std::int64_t>()),
        masks_(masks_of(spec["layers"].get<std::string>(), model.config())),
        store_(kv_store_config(
            model.config(), DType::kF32,
            model.config().context_length * static_cast<std::int64_t>(tokens_.size()))),
        logits_(tokens_.size(), json::array()) {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      sequences_.push_back(std::make_unique<KvSequence>(store_));
      if (spec["retain"].get<bool>()) {
        policies_.push_back(std::make_unique<RetainedPolicy>(masks_, model.config().context_length,
                                                             model.config().num_q_heads,
                                                             model.config().num_kv_heads));
      } else {
        policies_.push_back(std::make_unique<ExactPolicy>());
      }
    }
  }

  json finish() {
    while (pass()) {
    }
    return {{"logits", logits_}, {"kv_bytes", store_.used_bytes()}};
  }

 private:
  // The next chunk of every sequence that is not at its end; false when none is left.
  bool pass() {
    Tokens tokens;
    std::vector<KvRows> rows;
    std::vector<std::size_t> owners;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      KvSequence& sequence = *sequences_[i];
      const std::int64_t begin = sequence.length();
      const auto count = std::min(chunk_, static_cast<std::int64_t>(tokens_[i].size()) - begin);
      if (count == 0) continue;
      if (!sequence.append(count)) throw std::runtime_error("the cache is too small");
      tokens.insert(tokens.end(), tokens_[i].begin() + begin, tokens_[i].begin() + begin + count);
      rows.push_back({&sequence, begin, count});
      owners.insert(owners.end(), static_cast<std::size_t>(count), i);
    }
    if (rows.empty()) return false;
    Tokens wanted(tokens.size());
    std::iota(wanted.begin(), wanted.end(), 0);
    const torch::Tensor logits = model_.forward({tokens, rows, masks_, wanted}, context_);
    for (std::size_t row = 0; row < owners.size(); ++row) {
      const float* first =
          logits.data_ptr<float>() + static_cast<std::int64_t>(row) * logits.size(1);
      logits_[owners[row]].push_back(std::vector<float>(first, first + logits.size(1)));
    }
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      policies_[i]->commit(*sequences_[i], sequences_[i]->length());
    }
    return true;
  }

  const Llama& model_;
  Context& context_;
  std::vector<Tokens> tokens_;
  std::int64_t chunk_;
  std::vector<Mask> masks_;
  KvStore store_;
  std::vector<std::unique_ptr<KvSequence>> sequences_;
  std::vector<std::unique_ptr<CachePolicy>> policies_;
  std::vector<json> logits_;
};

Llama read_model(const std::string& path, Context& context) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  const ModelConfig config = read_model_config(checkpoint);
  return {config, WeightReader(checkpoint, config), LinearMode::kF32, context};
}

json run(std::string_view command, const std::string& path, const std::string& runs_path,
         Context& context) {
  const Llama model = read_model(path, context);
  json results = json::array();
  for (const json& spec : json::parse(read_text_file(runs_path))) {
    results.push_back(command == "diffuse" ? run_diffusion(model, spec, context)
                                           : Run(model, spec, context).finish());
  }
  return results;
}

}  // namespace

json answer(std::span<char*> arguments) {
  Runtime runtime(2);
  const auto load = [&](const char* path) { read_model(path, runtime.context()); };
  if (arguments[0] == std::string_view("load")) return load_errors(arguments.subspan(1), load);
  return run(arguments[0], arguments[1], arguments[2], runtime.context());
}

}  // namespace perpend::llama_tool
