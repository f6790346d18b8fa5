#pragma once

#include <cstdint>
#include <vector>

#include "perpend/kernels/cuda/device/gradient_params.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// A column schedule as the CUDA kernels read it: items longest first, the steps of all heads of an
// item's group in one list, those with a bitmap first. Scores are computed transposed, a row for
// each key, so that bitmaps have keys as rows and queries as columns, in the order of registers.
// Made without a GPU.
struct ColumnImage {
  std::vector<device::KeyItem> items;
  std::vector<device::KeyStep> steps;
  std::vector<std::int32_t> sub_tiles;  // first queries of gathered boxes of box_rows rows
  std::vector<std::uint32_t> bitmaps;   // [bitmaps, fragment_words(kGradientQueries)]
  std::vector<std::int32_t> q_indptr;   // [sequences + 1]
  int box_rows = 0;                     // kGradientQueries when nothing is gathered
};

// Throws InvalidArgument unless the tiles of the schedule are those of gpu_tiling() for columns.
ColumnImage make_column_image(const Schedule& schedule, int head_dim);

}  // namespace perpend
