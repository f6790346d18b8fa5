#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/core/range.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Random expressions over the whole algebra, whose constants lie around `scale`. Every mask fits
// every shape and reads back from its text; with a `length` there are also labels and tile maps
// that are given for just so many positions (segments, grids, arrays, tiles): those masks fit whole
// sequences of that length and parts of them.
class MaskGenerator {
 public:
  MaskGenerator(Random& random, std::int64_t scale, std::int64_t length = 0, bool names = true)
      : random_(random),
        scale_(std::max<std::int64_t>(scale, 1)),
        length_(length),
        names_(names && length > 0) {}

  Mask mask(int depth) {
    if (depth == 0 || below(10) < 3) return primitive();
    switch (below(8)) {
      case 0:
      case 1:
        return ~mask(depth - 1);
      case 2:
        return Mask::heads({{{{0, below_int(3)}}, mask(depth - 1)}, {{{5, 6}}, mask(depth - 1)}},
                           mask(depth - 1));
      case 3:
      case 4:
        return mask(depth - 1) | mask(depth - 1);
      default:
        return mask(depth - 1) & mask(depth - 1);
    }
  }

  Label label(int depth = 2) {
    switch (below(names_ ? 8 : length_ > 0 ? 7 : depth > 0 ? 5 : 3)) {
      case 0:
        return Label::block(1 + below(scale_), below(3) == 0 ? below(scale_) : 0);
      case 1:
        return Label::segments_at(ascending());
      case 2:
        return Label::copy(number());
      case 3:
      case 4: {
        const std::int64_t period = 1 + below(scale_);
        if (depth == 0) return Label::block(period);
        return Label::within(
            period,
            MaskGenerator(random_, scale_, below(2) == 0 ? period : 0, names_).label(depth - 1));
      }
      case 5:
        return segments();
      case 6:
        return below(2) == 0 ? grid() : Label::grid_frame(length_, 1, 1);
      default:
        return array();
    }
  }

 private:
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(random_.next_below(static_cast<std::uint64_t>(bound)));
  }
  int below_int(int bound) { return static_cast<int>(below(bound)); }
  std::int64_t number() { return below(scale_ + 2); }

  Mask primitive() {
    switch (below(names_ ? 17 : 16)) {
      case 0:
        return below(2) == 0 ? Mask::all() : Mask::none();
      case 1:
        return Mask::window(number());
      case 2:
        return Mask::window(number(), number());
      case 3:
        return Mask::sink(number());
      case 4:
      case 5:
        return Mask::causal();
      case 6:
        return Mask::near(1 + below(scale_), below(5));
      case 7:
        return Mask::every(1 + below(scale_), 1 + below(5), below(4));
      case 8:
      case 9:
        return Mask::same(label());
      case 10:
        return Mask::upto(label());
      case 11:
        return Mask::before(label());
      case 12:
      case 13:
        return Mask::k_in(label(), values());
      case 14:
        return Mask::q_in(label(), values());
      case 15:
        return table();
      default:
        return tiles();
    }
  }

  std::vector<std::int64_t> values() {
    std::vector<std::int64_t> result = {below(4)};
    while (below(2) == 0) result.push_back(below(8) - 1);
    return result;
  }

  std::vector<std::int64_t> ascending() {
    std::vector<std::int64_t> starts = {0};
    while (below(4) != 0) starts.push_back(starts.back() + below(scale_));
    return starts;
  }

  Mask table() {
    const std::int64_t rows = 1 + below(4);
    const std::int64_t size = 1 + below(scale_);
    std::vector<std::string> text;
    for (std::int64_t r = 0; r < rows; ++r) {
      text.emplace_back();
      for (std::int64_t c = 0; c < rows; ++c) text.back() += below(2) == 0 ? '0' : '1';
    }
    return Mask::table(Label::within(rows * size, Label::block(size)), text);
  }

  Label segments() {
    std::vector<Label::Run> runs;
    std::int64_t left = length_;
    while (left > 0 && below(6) != 0) {
      const std::int64_t size = below(std::min(left, scale_) + 1);
      runs.push_back({size, size == 0 ? 2 : 1 + below(left / size)});
      left -= runs.back().length * runs.back().count;
    }
    runs.push_back({left});
    return Label::segments(runs);
  }

  Label grid() {
    std::vector<std::int64_t> divisors;
    for (std::int64_t h = 1; h <= length_; ++h) {
      if (length_ % h == 0) divisors.push_back(h);
    }
    const std::int64_t height =
        divisors[static_cast<std::size_t>(below(static_cast<std::int64_t>(divisors.size())))];
    return Label::grid_window({.height = height,
                               .width = length_ / height,
                               .window_height = 1 + below(6),
                               .window_width = 1 + below(6),
                               .shift = below(4)});
  }

  Label array() {
    std::vector<std::int64_t> values;
    const bool ascends = below(3) == 0;
    std::int64_t value = below(4);
    for (std::int64_t i = 0; i < length_; ++i) {
      if (below(scale_ + 1) == 0 || below(6) == 0)
        value = ascends ? value + below(3) : below(6) - 1;
      values.push_back(value);
    }
    const Label array = Label::array(values);
    return Bindings().set("array", array).bind(Label::named("array"));
  }

  Mask tiles() {
    TileMap::Tiles tiles{.tile_q = 1 + below(scale_), .tile_k = 1 + below(scale_)};
    tiles.num_columns = ceil_div(length_, tiles.tile_k);
    tiles.row_begin = {0};
    const std::int64_t words = tiles.tile_q * ceil_div(tiles.tile_k, 64);
    for (std::int64_t i = 0; i < 2 * words; ++i) tiles.words.push_back(random_.next_u64());
    for (std::int64_t row = 0; row < ceil_div(length_, tiles.tile_q); ++row) {
      for (std::int64_t column = 0; column < tiles.num_columns; ++column) {
        if (below(2) == 0) continue;
        tiles.columns.push_back(static_cast<std::int32_t>(column));
        tiles.bitmaps.push_back(static_cast<std::int32_t>(below(4)) % 3 - 1);
      }
      tiles.row_begin.push_back(static_cast<std::int64_t>(tiles.columns.size()));
    }
    return Mask::tiles("map").bind(Bindings().set("map", TileMap(std::move(tiles))));
  }

  Random& random_;
  std::int64_t scale_;
  std::int64_t length_;
  bool names_;  // whether labels may be arrays and masks tile maps, which print as names
};

// A mask that fits every shape.
inline Mask random_mask(Random& random, std::int64_t scale, int depth = 3) {
  return MaskGenerator(random, scale).mask(depth);
}

// A mask for whole sequences of `length` positions, and parts of them.
inline Mask random_mask_of_length(Random& random, std::int64_t scale, std::int64_t length,
                                  int depth = 3) {
  return MaskGenerator(random, scale, length).mask(depth);
}

}  // namespace perpend
