#include "perpend/train/ranking_metrics.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>

#include "perpend/core/error.h"
#include "perpend/train/block_rank_loss.h"
#include "perpend/train/device_tensor.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostRanks = 10;

// Rows of a host tensor [rows, columns] f32.
std::span<const float> row_of(const torch::Tensor& values, std::size_t row) {
  const auto width = static_cast<std::size_t>(values.size(1));
  return {values.data_ptr<float>() + row * width, width};
}

torch::Tensor on_host(const torch::Tensor& values) {
  return values.to(torch::kFloat32).cpu().contiguous();
}

}  // namespace

void RankingQuality::add(std::span<const float> scores, std::span<const std::int32_t> answers) {
  check(!answers.empty(), "ranking: a list without an answer");
  for (const float score : scores) check(!std::isnan(score), "ranking: a score is no number");
  std::int64_t best = kMostRanks + 1;
  for (const std::int32_t answer : answers) {
    check(answer >= 1 && static_cast<std::size_t>(answer) <= scores.size(),
          concat("ranking: answer ", answer, " is none of ", scores.size(), " documents"));
    const std::size_t place = static_cast<std::size_t>(answer) - 1;
    std::int64_t rank = 1;
    for (std::size_t other = 0; other < scores.size(); ++other) {
      const bool is_before = scores[other] == scores[place] && other < place;
      if (scores[other] > scores[place] || is_before) ++rank;
    }
    best = std::min(best, rank);
  }
  ++num_lists_;
  if (best == 1) first_ += 1;
  if (best <= kMostRanks) reciprocal_ += 1.0 / static_cast<double>(best);
}

void RankingMetrics::add(const LossInput& input) {
  const PackedBatch& batch = input.batch;
  const auto positives = batch.lists.find("positives");
  check(positives != batch.lists.end(), "ranking: the data has no list 'positives'");
  const torch::Tensor scores = on_host(block_rank_scores(input.captured.at(layer_), batch));
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    const auto blocks = batch.rows_of(batch.labels.at("doc"), prompt);
    const auto num_docs =
        static_cast<std::size_t>(*std::max_element(blocks.begin(), blocks.end()) - 1);
    attention_.add(row_of(scores, prompt).first(num_docs), positives->second.of(prompt));
  }
  if (batch.lists.contains("ids")) add_answers(input);
}

void RankingMetrics::add_answers(const LossInput& input) {
  const PackedBatch& batch = input.batch;
  std::vector<std::int64_t> rows;
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    rows.push_back(batch.q_indptr[prompt] + batch.lists.at("signals").of(prompt).back());
  }
  const torch::Tensor x =
      at::index_select(input.hidden, 0, device_tensor(rows, input.hidden.device()));
  const torch::Tensor logits = on_host(at::matmul(x, input.head.t()));
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    const auto ids = batch.lists.at("ids").of(prompt);
    const auto positives = batch.lists.at("positives").of(prompt);
    const std::span<const float> of_tokens = row_of(logits, prompt);
    std::vector<float> scores;
    for (const std::int32_t id : ids) {
      check(id >= 0 && static_cast<std::size_t>(id) < of_tokens.size(),
            concat("ranking: id ", id, " is outside the vocabulary of ", of_tokens.size()));
      scores.push_back(of_tokens[static_cast<std::size_t>(id)]);
    }
    answer_.add(scores, positives);
    const auto likeliest = std::max_element(of_tokens.begin(), of_tokens.end()) - of_tokens.begin();
    const bool names_answer = std::any_of(positives.begin(), positives.end(), [&](auto positive) {
      return ids[static_cast<std::size_t>(positive) - 1] == likeliest;
    });
    if (names_answer) greedy_ += 1;
  }
}

}  // namespace perpend
