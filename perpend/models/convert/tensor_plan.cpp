#include "perpend/models/convert/tensor_plan.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "perpend/core/error.h"
#include "perpend/models/convert/llama3_rope.h"
#include "perpend/models/convert/model_metadata.h"
#include "perpend/models/weights.h"

namespace perpend {
namespace {

using Kind = Checkpoint::Kind;
using enum WeightRole;

constexpr std::array kLayerRoles = {kAttentionNorm, kQuery, kKey, kValue, kAttentionOutput,
                                    kMlpNorm,       kGate,  kUp,  kDown};
constexpr const char* kRotaryDivisors = "rope_freqs.weight";

std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) count *= length;
  return count;
}

class Planner {
 public:
  Planner(const Checkpoint& source, const ModelConfig& config, Kind target,
          std::optional<BlockFormat> format)
      : source_(source), config_(config), target_(target), format_(format) {
    plan_.head_dim = config.head_dim;
  }

  TensorPlan plan() {
    check_rotation();
    add_role(kEmbedding, 0);
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      for (const WeightRole role : kLayerRoles) add_role(role, layer);
    }
    add_role(kFinalNorm, 0);
    if (!config_.tied_embeddings) add_role(kHead, 0);
    add_rotary_divisors();
    add_others();
    return std::move(plan_);
  }

 private:
  bool same_kind() const { return source_.kind() == target_; }

  BlockFormat target_format(const StoredTensor& tensor) const {
    if (target_ == Kind::kGguf) {
      return tensor.shape.size() < 2 ? BlockFormat::kF32 : format_.value_or(tensor.format);
    }
    const BlockFormat format = format_.value_or(tensor.format);
    return is_float_format(format) ? format : BlockFormat::kBF16;
  }

  void check_rotation() const {
    const int rotary_dim = config_.rotary.rotary_dim;
    if (!same_kind() && (rotary_dim != config_.head_dim || rotary_dim % 2 != 0)) {
      throw Unsupported(concat(source_.path(), ": heads of ", config_.head_dim, " of which ",
                               rotary_dim,
                               " turn can not be converted; heads that turn whole can"));
    }
  }

  RowOrder order_of(WeightRole role) const {
    if (role != kQuery && role != kKey) return RowOrder::kSame;
    const RotaryLayout wanted = target_ == Kind::kGguf
                                    ? gguf_rotary_layout(gguf_architecture(config_))
                                    : RotaryLayout::kHalfSplit;
    if (same_kind() || wanted == config_.rotary.layout) return RowOrder::kSame;
    return wanted == RotaryLayout::kInterleaved ? RowOrder::kInterleaved : RowOrder::kHalfSplit;
  }

  void add(const StoredTensor& tensor, std::string name, RowOrder order = RowOrder::kSame) {
    done_.insert(tensor.name);
    plan_.steps.push_back({tensor, {std::move(name), target_format(tensor), tensor.shape}, order});
  }

  void add_role(WeightRole role, int layer) {
    const StoredTensor& weight = find_weight(source_, config_, role, layer);
    const StoredTensor* bias = find_bias(source_, config_, role, layer);
    // Copied with the others, in the order of the file.
    if (same_kind()) return;
    add(weight, weight_name(target_, config_.architecture, role, layer), order_of(role));
    if (bias != nullptr)
      add(*bias, weight_name(target_, config_.architecture, role, layer, ".bias"), order_of(role));
  }

  // Where config.json has a rule, GGUF has numbers.
  void add_rotary_divisors() {
    if (same_kind()) return;
    if (target_ == Kind::kHuggingFace) {
      done_.insert(kRotaryDivisors);
      return;
    }
    plan_.rotary_divisors = llama3_divisors(config_.rotary);
    if (plan_.rotary_divisors.empty()) return;
    const auto count = static_cast<std::int64_t>(plan_.rotary_divisors.size());
    add({kRotaryDivisors,
         BlockFormat::kF32,
         {count},
         std::as_bytes(std::span<const float>(plan_.rotary_divisors))},
        kRotaryDivisors);
  }

  // Computed anew by every reader, or never read.
  bool is_dispensable(std::string_view name) const {
    return source_.kind() == Kind::kHuggingFace &&
           (name.ends_with(".rotary_emb.inv_freq") ||
            (config_.tied_embeddings &&
             name == weight_name(source_.kind(), config_.architecture, kHead, 0)));
  }

  void add_others() {
    for (const StoredTensor& tensor : source_.tensors()) {
      if (done_.contains(tensor.name)) continue;
      if (same_kind()) {
        add(tensor, tensor.name);
      } else if (!is_dispensable(tensor.name)) {
        throw Unsupported(concat(source_.path(), ": tensor '", tensor.name,
                                 "' is none of a model of the Llama family; converting it is not "
                                 "built"));
      }
    }
  }

  const Checkpoint& source_;
  const ModelConfig& config_;
  Kind target_;
  std::optional<BlockFormat> format_;
  TensorPlan plan_;
  std::set<std::string, std::less<>> done_;  // names in the source
};

}  // namespace

std::vector<TensorSpec> TensorPlan::targets() const {
  std::vector<TensorSpec> specs;
  specs.reserve(steps.size());
  for (const TensorStep& step : steps) specs.push_back(step.target);
  return specs;
}

std::int64_t TensorPlan::source_bytes() const {
  std::int64_t total = 0;
  for (const TensorStep& step : steps) total += static_cast<std::int64_t>(step.source.bytes.size());
  return total;
}

std::int64_t TensorPlan::target_bytes() const {
  std::int64_t total = 0;
  for (const TensorStep& step : steps)
    total += static_cast<std::int64_t>(num_bytes_of(step.target));
  return total;
}

BlockFormat TensorPlan::main_format() const {
  std::map<BlockFormat, std::int64_t> num_values;
  for (const TensorStep& step : steps) {
    if (step.target.shape.size() > 1) {
      num_values[step.target.format] += count_of(step.target.shape);
    }
  }
  const auto most =
      std::max_element(num_values.begin(), num_values.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == num_values.end() ? BlockFormat::kF32 : most->first;
}

TensorPlan plan_tensors(const Checkpoint& source, const ModelConfig& config,
                        Checkpoint::Kind target, std::optional<BlockFormat> format) {
  return Planner(source, config, target, format).plan();
}

}  // namespace perpend
