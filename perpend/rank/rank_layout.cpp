#include "perpend/rank/rank_layout.h"

#include <algorithm>
#include <iterator>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

const std::vector<std::int32_t>& tokens_of(const RankPrompt& prompt, std::size_t block) {
  if (block == 0) return prompt.instruction;
  return block <= prompt.documents.size() ? prompt.documents[block - 1] : prompt.query;
}

// Collects blocks one after another.
class Layouter {
 public:
  Layouter(const RankPrompt& prompt, std::int64_t query_pos_offset)
      : prompt_(prompt),
        query_pos_offset_(query_pos_offset),
        query_block_(prompt.documents.size() + 1) {}

  std::size_t num_blocks() const { return query_block_ + 1; }

  // Padding places up to `place`.
  void pad_to(std::int64_t place) {
    if (place > layout_.num_places) label(padding());
    layout_.num_places = std::max(layout_.num_places, place);
  }

  // Rows that run but stand for nothing, up to `place`.
  void pad_rows_to(std::int64_t place) {
    const auto count = static_cast<std::size_t>(place - layout_.num_places);
    layout_.tokens.resize(layout_.tokens.size() + count);
    layout_.positions.resize(layout_.positions.size() + count);
    pad_to(place);
  }

  void add(std::size_t block, bool runs) {
    const std::vector<std::int32_t>& tokens = tokens_of(prompt_, block);
    RankLayout::Block placed{.place = layout_.num_places, .size = std::ssize(tokens)};
    if (placed.size > 0) label(static_cast<std::int64_t>(block));
    layout_.num_places += placed.size;
    if (runs) {
      placed.rows = {std::ssize(layout_.tokens), std::ssize(layout_.tokens) + placed.size};
      layout_.tokens.insert(layout_.tokens.end(), tokens.begin(), tokens.end());
      for (std::int64_t t = 0; t < placed.size; ++t) {
        layout_.positions.push_back(static_cast<std::int32_t>(first_position(block) + t));
      }
    }
    layout_.blocks.push_back(placed);
  }

  void add_pass(Range places) { layout_.passes.push_back(places); }

  std::int64_t end() const { return layout_.num_places; }

  RankLayout finish() {
    const auto last = static_cast<std::int64_t>(query_block_);
    const Mask mask =
        parse_mask(concat("blockrank(doc, ", last, ") & ~k_in(doc, ", padding(), ")"));
    layout_.mask = mask.bind(Bindings().set("doc", Label::runs(starts_, labels_)));
    return std::move(layout_);
  }

 private:
  std::int64_t padding() const { return static_cast<std::int64_t>(query_block_) + 1; }
  std::int64_t first_position(std::size_t block) const {
    if (block == query_block_) return query_pos_offset_;
    return block == 0 ? 0 : std::ssize(prompt_.instruction);
  }
  void label(std::int64_t value) {
    starts_.push_back(layout_.num_places);
    labels_.push_back(value);
  }

  const RankPrompt& prompt_;
  std::int64_t query_pos_offset_;
  std::size_t query_block_;
  RankLayout layout_;
  std::vector<std::int64_t> starts_;
  std::vector<std::int64_t> labels_;
};

RankLayout pack(Layouter layouter, std::int64_t page_size,
                const std::function<bool(std::size_t)>& runs) {
  for (std::size_t block = 0; block < layouter.num_blocks(); ++block) {
    layouter.pad_to(round_up(layouter.end(), page_size));
    const bool is_query = block + 1 == layouter.num_blocks();
    const std::int64_t begin = layouter.end();
    const bool does_run = is_query || !runs || runs(block);
    layouter.add(block, does_run);
    if (does_run) layouter.add_pass({begin, layouter.end()});
  }
  return layouter.finish();
}

RankLayout pad(const RankPrompt& prompt, Layouter layouter) {
  std::int64_t length = 0;
  for (std::size_t block = 0; block < layouter.num_blocks(); ++block) {
    length = std::max(length, std::ssize(tokens_of(prompt, block)));
  }
  length = round_up(length, 16);
  for (std::size_t block = 0; block < layouter.num_blocks(); ++block) {
    const std::int64_t end = static_cast<std::int64_t>(block + 1) * length;
    layouter.pad_rows_to(end - std::ssize(tokens_of(prompt, block)));
    layouter.add(block, true);
  }
  layouter.add_pass({0, layouter.end()});
  return layouter.finish();
}

}  // namespace

RankLayout lay_out(const RankPrompt& prompt, std::int64_t query_pos_offset, RankPacking packing,
                   std::int64_t page_size, const std::function<bool(std::size_t block)>& runs) {
  Layouter layouter(prompt, query_pos_offset);
  return packing == RankPacking::kPadded ? pad(prompt, std::move(layouter))
                                         : pack(std::move(layouter), page_size, runs);
}

}  // namespace perpend
