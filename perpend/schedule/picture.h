#pragma once

#include <string>
#include <vector>

#include "perpend/core/image.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// A filled rectangle of a drawing, in units of one (query, key) pair: x along keys, y along
// queries.
struct PictureTile {
  std::int64_t x = 0;
  std::int64_t y = 0;
  std::int64_t width = 0;
  std::int64_t height = 0;
  double density = 1.0;  // share of live pairs; 1 for a full tile
};

// The live pieces of steps of head 0 of the first sequence: a gathered step is drawn where its
// sub-tiles come from, one that half of an item skips only as high as the other half.
std::vector<PictureTile> picture_tiles(const Schedule& schedule);

// Head 0 of the first sequence as a picture of at most `max_pixels` on its longer side: keys to the
// right, queries downwards; full tiles dark blue, partial tiles light blue with their live pairs
// dark, dead pairs white. Where a pixel stands for several pairs, its shade is their density.
Image draw_schedule(const Schedule& schedule, const Mask& mask, int max_pixels);

// The same for a terminal: at most `max_columns` characters wide, two rows of cells a line.
std::string draw_text(const Mask& mask, const SequenceShape& sequence, int max_columns);

}  // namespace perpend
