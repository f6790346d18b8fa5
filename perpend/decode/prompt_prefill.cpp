#include "perpend/decode/prompt_prefill.h"

#include <algorithm>
#include <utility>

#include "perpend/cache/prefill_plan.h"
#include "perpend/core/error.h"

namespace perpend {

PromptPrefill::PromptPrefill(const Parts& parts, std::int64_t block_size)
    : parts_(parts),
      page_size_(parts.sequence.store().config().page_size),
      visibility_(parts.layer_masks, block_size, parts.model.config().context_length,
                  parts.model.config().num_q_heads, parts.model.config().num_kv_heads) {
  check(block_size % page_size_ == 0,
        concat("prefill: blocks must be whole pages (", block_size, " vs ", page_size_, ")"));
}

const PrefixStore::Entry* PromptPrefill::stored(int layer, std::int32_t block) const {
  return parts_.store == nullptr ? nullptr : parts_.store->find(keys_->at(layer, block));
}

std::vector<Range> PromptPrefill::plan(std::int32_t num_blocks) {
  const auto has_keys = [&](int layer, std::int32_t block) {
    return stored(layer, block) != nullptr;
  };
  const auto has_rows = [&](int layer, std::int32_t block) {
    const PrefixStore::Entry* entry = stored(layer, block);
    return entry != nullptr && !entry->rows.empty();
  };
  return plan_prefill(visibility_, num_blocks, {has_keys, has_rows});
}

bool PromptPrefill::run(std::span<const std::int32_t> tokens,
                        const std::function<bool(std::int64_t)>& progress) {
  const std::int64_t block_size = visibility_.block_size();
  reused_tokens_ = layer_tokens_ = 0;
  if (parts_.sequence.length() != 0) bug("prefill: the sequence is not empty");
  if (tokens.empty()) return true;
  const auto num_blocks =
      static_cast<std::int32_t>((static_cast<std::int64_t>(tokens.size()) - 1) / block_size);
  if (parts_.store != nullptr) {
    parts_.store->begin_request();
    keys_.emplace(visibility_, parts_.hash, tokens, num_blocks);
  }
  const std::vector<Range> layers = plan(num_blocks);
  for (std::int32_t block = 0; block < num_blocks; ++block) {
    const std::int64_t first = block * block_size;
    run_block(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(block_size)),
              block, layers[static_cast<std::size_t>(block)]);
    parts_.policy.commit(parts_.sequence, first + block_size);
    if (progress && !progress(first + block_size)) {
      if (!can_go_on()) parts_.sequence.truncate(0);
      return false;
    }
  }
  return true;
}

void PromptPrefill::run_block(std::span<const std::int32_t> tokens, std::int32_t block,
                              Range layers) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const std::int64_t first = parts_.sequence.length();
  if (!parts_.sequence.append_pages(count, layers)) {
    throw OutOfMemory(concat("KV cache: no page left at token ", first, " of ",
                             parts_.sequence.store().config().max_tokens));
  }
  const bool shares = parts_.store != nullptr && share_pages(block, layers);
  if (layers.empty()) {
    if (shares) reused_tokens_ += count;
    return;
  }
  layer_tokens_ += count * layers.size();

  const auto num_values =
      static_cast<std::size_t>(count) * static_cast<std::size_t>(parts_.model.config().model_dim);
  std::vector<std::vector<float>> rows;
  std::vector<RowsAtLayer> wanted;
  rows.reserve(visibility_.checkpoints().size());
  for (const int checkpoint : visibility_.checkpoints()) {
    const bool is_inside = layers.begin < checkpoint && checkpoint < layers.end;
    if (parts_.store == nullptr || !is_inside) continue;
    wanted.push_back({checkpoint, rows.emplace_back(num_values)});
  }
  const KvRows kv_rows{&parts_.sequence, first, count};
  ForwardInput input{tokens, {&kv_rows, 1}, parts_.layer_masks, {}};
  input.from_layer = static_cast<int>(layers.begin);
  input.end_layer = static_cast<int>(layers.end);
  input.wanted_rows = wanted;
  if (input.from_layer > 0) input.input_rows = stored(input.from_layer, block)->rows;
  parts_.model.forward(input, parts_.context);
  if (parts_.store != nullptr) keep(block, layers, wanted);
}

// All that is stored of the layers that do not run. Whether there was any.
bool PromptPrefill::share_pages(std::int32_t block, Range layers) {
  const std::int64_t first_page = visibility_.rows_of(block).begin / page_size_;
  bool shares = false;
  for (int layer = 0; layer < visibility_.num_layers(); ++layer) {
    const PrefixStore::Entry* entry = layers.contains(layer) ? nullptr : stored(layer, block);
    if (entry == nullptr) continue;
    std::int64_t page = first_page;
    for (const std::int32_t id : entry->pages) parts_.sequence.share_page(layer, page++, id);
    shares = true;
  }
  return shares;
}

void PromptPrefill::keep(std::int32_t block, Range layers, std::span<const RowsAtLayer> rows) {
  const auto first_page = static_cast<std::size_t>(visibility_.rows_of(block).begin / page_size_);
  for (auto layer = static_cast<int>(layers.begin); layer < layers.end; ++layer) {
    const auto pages = parts_.sequence.page_table(layer).subspan(first_page);
    PrefixStore::Entry entry{{pages.begin(), pages.end()}, {}};
    const auto at_input = std::ranges::find(rows, layer, &RowsAtLayer::layer);
    if (at_input != rows.end()) entry.rows.assign(at_input->rows.begin(), at_input->rows.end());
    parts_.store->add(keys_->at(layer, block), std::move(entry));
  }
}

// Whether every key is there that a later position may see, whatever the tokens there are.
bool PromptPrefill::can_go_on() const {
  const std::int64_t length = parts_.sequence.length();
  for (int layer = 0; layer < visibility_.num_layers(); ++layer) {
    Range keys{0, page_size_};
    for (const std::int32_t page : parts_.sequence.page_table(layer)) {
      if (page == KvSequence::kNoPage && visibility_.is_kept(layer, keys, length)) return false;
      keys = {keys.end, keys.end + page_size_};
    }
  }
  return true;
}

}  // namespace perpend
