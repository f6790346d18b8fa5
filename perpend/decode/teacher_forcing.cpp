#include "perpend/decode/teacher_forcing.h"

#include <cmath>
#include <numeric>

#include "perpend/cache/retained_policy.h"
#include "perpend/core/error.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/pass_runner.h"

namespace perpend {
namespace {

constexpr std::int64_t kRows = 128;  // rows whose logits are held at once

// One run inside one window: its cache, and logits for the next rows.
class Window {
 public:
  explicit Window(const TeacherForcing& run)
      : run_(run),
        masks_(run.layer_masks.empty() ? default_masks(config()) : run.layer_masks),
        store_(kv_store_config(config(), run.kv_dtype, run.window + kRows, run.context.device)),
        sequence_(store_),
        policy_(masks_, run.window, config().num_q_heads, config().num_kv_heads),
        runner_(run.model.network(), run.context) {}

  // Log-probabilities [rows, vocab_size] after each of `tokens`, which follow those given before;
  // valid until the next pass in the same context.
  torch::Tensor run(std::span<const std::int32_t> tokens) {
    const std::int64_t first = sequence_.length();
    const auto count = static_cast<std::int64_t>(tokens.size());
    if (!sequence_.append(count)) bug("teacher forcing: the store is sized for its window");
    std::vector<std::int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    const KvRows kv_rows{&sequence_, first, count};
    torch::Tensor logits = runner_.run({tokens, {&kv_rows, 1}, masks_, rows});
    policy_.commit(sequence_, first + count);
    std::vector<VocabularySummary> summaries(rows.size());
    cpu_kernels().fused.vocabulary(
        {TensorView::dense(logits.data_ptr<float>(), {count, logits.size(1)}), summaries},
        run_.context.stream);
    for (std::int64_t row = 0; row < count; ++row) {
      logits[row].sub_(summaries[static_cast<std::size_t>(row)].logsumexp);
    }
    return logits;
  }

 private:
  const ModelConfig& config() const { return run_.model.config(); }

  const TeacherForcing& run_;
  std::vector<Mask> masks_;
  KvStore store_;
  KvSequence sequence_;
  RetainedPolicy policy_;
  PassRunner runner_;
};

void check_run(const TeacherForcing& run, std::span<const std::int32_t> tokens) {
  const std::optional<DiffusionConfig>& diffusion = run.model.diffusion();
  if (diffusion && run.layer_masks.empty() && context_mask(*diffusion) != Mask::causal()) {
    throw Unsupported(
        "teacher forcing: tokens of this diffusion model see the very token that they predict; the "
        "masks \"all: causal\" run it as an autoregressive one");
  }
  const std::int64_t context_length = run.model.config().context_length;
  check(tokens.size() >= 2,
        concat("teacher forcing: the text has too few tokens (", tokens.size(), ")"));
  check(run.window >= 2 && run.window <= context_length,
        concat("teacher forcing: window must be in [2, ", context_length, "] (", run.window, ")"));
}

// Calls visit(tokens, targets) for consecutive rows of one window and fresh() before each window.
template <class Fresh, class Visit>
void for_each_chunk(std::span<const std::int32_t> tokens, std::int64_t window, Fresh fresh,
                    Visit visit, const TokenProgress& progress) {
  const auto total = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t begin = 0; begin + 1 < total; begin += window) {
    fresh();
    const std::int64_t end = std::min(begin + window, total);
    for (std::int64_t row = begin; row + 1 < end; row += kRows) {
      const std::int64_t count = std::min(kRows, end - 1 - row);
      visit(tokens.subspan(static_cast<std::size_t>(row), static_cast<std::size_t>(count)),
            tokens.subspan(static_cast<std::size_t>(row + 1), static_cast<std::size_t>(count)));
      if (progress) progress(row + count);
    }
  }
}

}  // namespace

Score score_teacher_forced(const TeacherForcing& run, std::span<const std::int32_t> tokens,
                           const TokenProgress& progress) {
  check_run(run, tokens);
  Score score;
  std::optional<Window> window;
  for_each_chunk(
      tokens, run.window, [&] { window.emplace(run); },
      [&](auto inputs, auto targets) {
        const torch::Tensor logprobs = window->run(inputs);
        const float* row = logprobs.data_ptr<float>();
        for (std::int32_t target : targets) {
          score.mean_nll -= row[target];
          row += logprobs.size(1);
        }
        score.count += static_cast<std::int64_t>(targets.size());
      },
      progress);
  score.mean_nll /= static_cast<double>(score.count);
  return score;
}

Agreement compare_teacher_forced(const TeacherForcing& run, const TeacherForcing& reference,
                                 std::span<const std::int32_t> tokens,
                                 const TokenProgress& progress) {
  check_run(run, tokens);
  check_run(reference, tokens);
  check_eq(run.window, reference.window, "teacher forcing: windows of the two runs differ");
  Agreement agreement;
  std::optional<Window> window;
  std::optional<Window> exact;
  for_each_chunk(
      tokens, run.window,
      [&] {
        window.emplace(run);
        exact.emplace(reference);
      },
      [&](auto inputs, auto targets) {
        // The reference may run in the same workspace.
        const torch::Tensor p = window->run(inputs).clone();
        const torch::Tensor q = exact->run(inputs);
        const std::int64_t vocab_size = p.size(1);
        for (std::size_t i = 0; i < targets.size(); ++i) {
          const float* run_row = p.data_ptr<float>() + static_cast<std::int64_t>(i) * vocab_size;
          const float* exact_row = q.data_ptr<float>() + static_cast<std::int64_t>(i) * vocab_size;
          double kl = 0;
          for (std::int64_t token = 0; token < vocab_size; ++token) {
            kl += std::exp(static_cast<double>(exact_row[token])) *
                  (static_cast<double>(exact_row[token]) - run_row[token]);
          }
          agreement.mean_kl += kl;
          agreement.mean_nll -= run_row[targets[i]];
          agreement.mean_nll_reference -= exact_row[targets[i]];
          const auto best = [&](const float* row) {
            return std::max_element(row, row + vocab_size) - row;
          };
          agreement.top1 += best(run_row) == best(exact_row) ? 1 : 0;
        }
        agreement.count += static_cast<std::int64_t>(targets.size());
      },
      progress);
  const auto count = static_cast<double>(agreement.count);
  agreement.mean_kl /= count;
  agreement.mean_nll /= count;
  agreement.mean_nll_reference /= count;
  agreement.top1 /= count;
  return agreement;
}

}  // namespace perpend
