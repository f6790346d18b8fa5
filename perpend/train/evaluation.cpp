#include "perpend/train/evaluation.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/stack.h>

#include "perpend/core/error.h"
#include "perpend/train/batch_reader.h"
#include "perpend/train/forward_batch.h"
#include "perpend/train/mask_binder.h"
#include "perpend/train/target_rows.h"

namespace perpend {
namespace {

constexpr std::int64_t kChunkRows = 2048;  // whose logits exist at a time

// [targets, 2] f64 of the host: the cross-entropy, and 1 where the likeliest token is the target.
torch::Tensor score(const TargetRows& rows, const torch::Tensor& head) {
  std::vector<torch::Tensor> parts;
  for (std::int64_t first = 0; first < rows.targets.size(0); first += kChunkRows) {
    const std::int64_t count = std::min(kChunkRows, rows.targets.size(0) - first);
    const torch::Tensor target = rows.targets.narrow(0, first, count);
    const torch::Tensor logits =
        at::linear(rows.hidden.narrow(0, first, count), head).to(torch::kFloat32);
    const torch::Tensor loss =
        at::logsumexp(logits, 1) - logits.gather(1, target.unsqueeze(1)).squeeze(1);
    parts.push_back(at::stack({loss, logits.argmax(1).eq(target).to(loss)}, 1));
  }
  return at::cat(parts).to(torch::kCPU, torch::kFloat64);
}

// The group of each target of a batch, in order; none without the list.
std::vector<std::int32_t> groups_of(const PackedBatch& batch) {
  const auto found = batch.lists.find("group");
  if (found == batch.lists.end()) return {};
  for (std::size_t s = 0; s < batch.num_sequences(); ++s) {
    const auto begin = batch.weights.begin() + batch.q_indptr[s];
    const auto end = batch.weights.begin() + batch.q_indptr[s + 1];
    const auto num_targets = std::count_if(begin, end, [](float weight) { return weight > 0; });
    check_eq(static_cast<std::int64_t>(found->second.of(s).size()), num_targets,
             "evaluation: values of list.group and targets of positive weight differ in number");
  }
  return found->second.values;
}

}  // namespace

void for_each_evaluated(const DifferentiableModel& model, std::shared_ptr<const Dataset> data,
                        std::vector<Mask> layer_masks, const EvaluationOptions& options,
                        FunctionRef<void(const LossInput& input)> visit) {
  const at::NoGradGuard no_grad;
  BatchReader reader(std::move(data),
                     {.tokens = options.batch_tokens, .shuffle = false, .repeat = false});
  const MaskBinder masks(std::move(layer_masks));
  const ForwardOptions forward{.captured_layers = options.captured_layers};
  for (;;) {
    const PackedBatch batch = reader.next();
    if (batch.num_rows() == 0) return;
    visit(forward_batch(model, batch, masks.bind(batch), forward));
  }
}

void TargetScorer::add(const LossInput& input) {
  const PackedBatch& batch = input.batch;
  result_.num_sequences += static_cast<std::int64_t>(batch.num_sequences());
  result_.num_tokens += batch.num_rows();
  const std::vector<std::int32_t> groups = groups_of(batch);
  const TargetRows rows = target_rows(input);
  if (rows.targets.size(0) == 0) return;
  const torch::Tensor scores = score(rows, input.head);
  const torch::Tensor weights = rows.weights.to(torch::kCPU);
  const auto score_of = scores.accessor<double, 2>();
  const auto weight_of = weights.accessor<float, 1>();
  for (std::int64_t i = 0; i < scores.size(0); ++i) {
    const auto add_to = [&](TargetScore& sum) {
      ++sum.count;
      sum.num_exact += score_of[i][1] > 0 ? 1 : 0;
      sum.weight += weight_of[i];
      sum.loss_sum += weight_of[i] * score_of[i][0];
    };
    add_to(result_.all);
    if (!groups.empty()) add_to(result_.groups[groups[static_cast<std::size_t>(i)]]);
  }
}

Evaluation evaluate(const DifferentiableModel& model, std::shared_ptr<const Dataset> data,
                    std::vector<Mask> layer_masks, const EvaluationOptions& options,
                    FunctionRef<void(std::int64_t num_tokens)> progress) {
  TargetScorer scorer;
  for_each_evaluated(model, std::move(data), std::move(layer_masks), options,
                     [&](const LossInput& input) {
                       scorer.add(input);
                       progress(scorer.result().num_tokens);
                     });
  return scorer.result();
}

}  // namespace perpend
