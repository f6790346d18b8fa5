#include <array>

#include "perpend/core/concat.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/covers.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/retention.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using namespace perpend;

constexpr std::int64_t kLength = 12;

void demand(bool holds, std::string_view what) {
  if (!holds) bug(what);
}

// Everything that the text leaves open, bound to something small.
Mask with_names_bound(const Mask& mask) {
  constexpr std::array<std::int64_t, kLength> kValues = {3, 3, -1, 0, 0, 7, 7, 7, 3, 2, 2, 9};
  TileMap::Tiles tiles{.tile_q = 5, .tile_k = 4, .num_columns = 3};
  tiles.row_begin = {0, 2, 2, 3};
  tiles.columns = {0, 2, 1};
  tiles.bitmaps = {TileMap::kFull, 0, 0};
  tiles.words = {5, 9, 15, 0, 2};
  Bindings bindings;
  for (const std::string& name : mask.unbound_names()) {
    // A name may stand for a label in one place and for tiles in another.
    bindings.set(name, TileMap(tiles));
    refuse_or_use([&] { bindings.set(name, Label::array(kValues)); });
  }
  return mask.bind(bindings);
}

void check_sweep(const Mask& mask, const BoundMask& bound, Sweep sweep, HeadIndex head) {
  const auto live = [&](std::int64_t outer, std::int64_t inner) {
    return sweep == Sweep::kRows ? mask.visible(outer, inner, head)
                                 : mask.visible(inner, outer, head);
  };
  for (std::int64_t outer = 0; outer < kLength; ++outer) {
    const std::uint64_t word = bound.word(sweep, outer, 0);
    for (std::int64_t inner = 0; inner < kLength; ++inner) {
      demand(live(outer, inner) == ((word >> inner & 1U) != 0), "a word contradicts a pair");
    }
  }
  const Range outer{3, 9};
  MaskWalk walk(bound, sweep, outer);
  for (std::int64_t begin = 0; begin < kLength;) {
    const auto part = walk.stretch({begin, kLength});
    demand(part.end > begin && part.end <= kLength, "a stretch is empty or too long");
    for (std::int64_t o = outer.begin; o < outer.end && part.answer != Answer::kSome; ++o) {
      for (std::int64_t i = begin; i < part.end; ++i) {
        demand(live(o, i) == (part.answer == Answer::kAll), "a stretch contradicts a pair");
      }
    }
    std::vector<std::int64_t> key;
    walk.append_class({begin, part.end}, key);
    demand(!key.empty(), "a class is empty");
    begin = part.end;
  }
}

// The laws that hold for every mask.
void check_laws(const Mask& text_mask) {
  const Mask again = parse_mask(concat(text_mask));
  demand(again == text_mask, "the text of a mask reads back as another");
  demand((text_mask & again) == text_mask && ~~text_mask == text_mask, "not a logic");
  const Mask mask = with_names_bound(text_mask);
  const HeadIndex head{2, 1};
  const BoundMask bound(mask, head);
  check_sweep(mask, bound, Sweep::kRows, head);
  check_sweep(mask, bound, Sweep::kColumns, head);
  refuse_or_use([&] { check_covers(mask, kLength, kLength, 0); });
  bool seen = false;
  for (std::int64_t q = 5; q < kLength; ++q) seen = seen || mask.visible(q, 3, head);
  const Retention retention(mask, kLength, 4, 2);
  demand(!seen || retention.may_be_seen(1, {3, 4}, 5), "a visible key is dropped");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(data, size);
  refuse_or_use([&] { check_laws(parse_mask(text)); });
  refuse_or_use([&] {
    const Label label = parse_label(text);
    demand(parse_label(label.str()) == label, "the text of a label reads back as another");
  });
  refuse_or_use([&] { parse_bindings(text); });
  return refuse_or_use([&] { parse_layer_masks(text, 30); });
}
