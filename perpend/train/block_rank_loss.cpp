#include "perpend/train/block_rank_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/index_select.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "perpend/core/error.h"
#include "perpend/train/device_tensor.h"

namespace perpend {
namespace {

// Rows that score and rows that are scored, of all prompts, padded to equal numbers.
struct SignalRows {
  std::int64_t num_prompts = 0;
  std::int64_t num_signals = 0;       // of each prompt
  std::int64_t num_keys = 0;          // document tokens of the longest prompt
  std::int64_t num_docs = 0;          // of the prompt with most
  std::vector<std::int64_t> signals;  // [prompts, num_signals] rows of the batch
  std::vector<std::int64_t> keys;     // [prompts, num_keys]; padding repeats row 0
  std::vector<std::int64_t> docs;     // [prompts, num_keys], from 0
  std::vector<float> bias;            // [prompts, num_keys]: -inf on padding
};

template <class Map>
const typename Map::mapped_type& require_part(const Map& map, const std::string& name,
                                              std::string_view kind) {
  const auto found = map.find(name);
  if (found != map.end()) return found->second;
  throw InvalidArgument(concat("blockrank loss: the data has no ", kind, " '", name, "'"));
}

const std::vector<std::int32_t>& docs_of(const PackedBatch& batch) {
  return require_part(batch.labels, "doc", "label");
}

// Documents of each prompt: blocks but the first and the last.
std::vector<std::int64_t> count_docs(const PackedBatch& batch) {
  std::vector<std::int64_t> counts;
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    const auto blocks = batch.rows_of(docs_of(batch), prompt);
    counts.push_back(*std::max_element(blocks.begin(), blocks.end()) - 1);
    check(counts.back() >= 1, "blockrank loss: a prompt without documents");
  }
  return counts;
}

void add_signals(const PackedBatch& batch, std::size_t prompt, SignalRows& rows) {
  const auto signals = require_part(batch.lists, "signals", "list").of(prompt);
  if (prompt == 0) rows.num_signals = static_cast<std::int64_t>(signals.size());
  check(!signals.empty() && static_cast<std::int64_t>(signals.size()) == rows.num_signals,
        concat("blockrank loss: prompts must have equally many signals, at least one (",
               signals.size(), ")"));
  const std::int32_t begin = batch.q_indptr[prompt];
  const std::int32_t length = batch.q_indptr[prompt + 1] - begin;
  for (const std::int32_t signal : signals) {
    check(signal >= 0 && signal < length,
          concat("blockrank loss: signal ", signal, " is outside a prompt of ", length, " rows"));
    rows.signals.push_back(begin + signal);
  }
}

SignalRows signal_rows(const PackedBatch& batch) {
  const std::vector<std::int32_t>& docs = docs_of(batch);
  SignalRows rows;
  const std::vector<std::int64_t> num_docs = count_docs(batch);
  rows.num_prompts = static_cast<std::int64_t>(batch.num_sequences());
  rows.num_docs = *std::max_element(num_docs.begin(), num_docs.end());
  std::vector<std::vector<std::int64_t>> keys(batch.num_sequences());
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    add_signals(batch, prompt, rows);
    const auto blocks = batch.rows_of(docs, prompt);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i] < 1 || blocks[i] > num_docs[prompt]) continue;
      keys[prompt].push_back(batch.q_indptr[prompt] + static_cast<std::int64_t>(i));
    }
    rows.num_keys = std::max(rows.num_keys, static_cast<std::int64_t>(keys[prompt].size()));
  }
  for (const std::vector<std::int64_t>& list : keys) {
    for (const std::int64_t row : list) {
      rows.docs.push_back(docs[static_cast<std::size_t>(row)] - 1);
    }
    const auto padding = static_cast<std::size_t>(rows.num_keys) - list.size();
    rows.keys.insert(rows.keys.end(), list.begin(), list.end());
    rows.bias.resize(rows.keys.size(), 0.0F);
    rows.keys.resize(rows.keys.size() + padding);
    rows.docs.resize(rows.keys.size());
    rows.bias.resize(rows.keys.size(), -std::numeric_limits<float>::infinity());
  }
  return rows;
}

// [prompts, most documents] of 0 for each document that `chosen` wants and -inf elsewhere.
template <class Chosen>
torch::Tensor document_bias(const PackedBatch& batch, std::int64_t num_docs, Chosen chosen,
                            torch::Device device) {
  std::vector<float> bias;
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    for (std::int64_t doc = 0; doc < num_docs; ++doc) {
      bias.push_back(chosen(prompt, doc) ? 0.0F : -std::numeric_limits<float>::infinity());
    }
  }
  return device_tensor(bias, device)
      .view({static_cast<std::int64_t>(batch.num_sequences()), num_docs});
}

void check_positives(const PackedBatch& batch, const std::vector<std::int64_t>& num_docs) {
  const PackedBatch::Lists& positives = require_part(batch.lists, "positives", "list");
  for (std::size_t prompt = 0; prompt < batch.num_sequences(); ++prompt) {
    const auto documents = positives.of(prompt);
    check(!documents.empty(), "blockrank loss: a prompt without a positive document");
    for (const std::int32_t document : documents) {
      check(document >= 1 && document <= num_docs[prompt],
            concat("blockrank loss: positive ", document, " is none of ", num_docs[prompt],
                   " documents"));
    }
  }
}

}  // namespace

torch::Tensor block_rank_scores(const RotatedHeads& heads, const PackedBatch& batch) {
  const SignalRows rows = signal_rows(batch);
  const torch::Device device = heads.q.device();
  const std::int64_t num_kv_heads = heads.k.size(1);
  const std::int64_t group_size = heads.q.size(1) / num_kv_heads;
  const std::int64_t head_dim = heads.q.size(2);
  const auto wide = heads.q.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  // q [prompts, kv heads, signals * group, head_dim], k [prompts, kv heads, head_dim, keys]
  const torch::Tensor q =
      at::index_select(heads.q, 0, device_tensor(rows.signals, device))
          .to(wide)
          .view({rows.num_prompts, rows.num_signals, num_kv_heads, group_size, head_dim})
          .permute({0, 2, 1, 3, 4})
          .reshape({rows.num_prompts, num_kv_heads, rows.num_signals * group_size, head_dim});
  const torch::Tensor k = at::index_select(heads.k, 0, device_tensor(rows.keys, device))
                              .to(wide)
                              .view({rows.num_prompts, rows.num_keys, num_kv_heads, head_dim})
                              .permute({0, 2, 3, 1});
  const torch::Tensor bias =
      device_tensor(rows.bias, device).to(wide).view({rows.num_prompts, 1, 1, rows.num_keys});
  const torch::Tensor z = at::matmul(q, k) / std::sqrt(static_cast<double>(head_dim)) + bias;
  const torch::Tensor alpha = at::softmax(z, -1).mean({1, 2});  // [prompts, keys]
  const torch::Tensor docs =
      device_tensor(rows.docs, device).view({rows.num_prompts, rows.num_keys});
  return at::zeros({rows.num_prompts, rows.num_docs}, alpha.options()).scatter_add(1, docs, alpha);
}

double BlockRankLoss::count(const PackedBatch& batch) const {
  return static_cast<double>(batch.num_sequences());
}

torch::Tensor BlockRankLoss::sum(const LossInput& input) const {
  const PackedBatch& batch = input.batch;
  const std::vector<std::int64_t> num_docs = count_docs(batch);
  check_positives(batch, num_docs);
  const torch::Tensor scores = block_rank_scores(input.captured.at(layer_), batch);
  const torch::Tensor u = scores / tau_;
  const auto exists = [&](std::size_t prompt, std::int64_t doc) { return doc < num_docs[prompt]; };
  const auto answers = [&](std::size_t prompt, std::int64_t doc) {
    const auto positives = batch.lists.at("positives").of(prompt);
    return std::find(positives.begin(), positives.end(), doc + 1) != positives.end();
  };
  const torch::Tensor all = document_bias(batch, scores.size(1), exists, u.device()).to(u);
  const torch::Tensor positive = document_bias(batch, scores.size(1), answers, u.device()).to(u);
  return (at::logsumexp(u + all, 1) - at::logsumexp(u + positive, 1)).sum();
}

}  // namespace perpend
