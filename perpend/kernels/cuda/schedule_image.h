#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/core/function_ref.h"
#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// A row schedule as the CUDA kernels read it: items longest first within some heads after others,
// steps in lists, of each list those first that have a bitmap or not all parts, bitmaps in the
// order of the scores' registers. Made without a GPU.
struct ScheduleImage {
  std::vector<device::Item> items;
  std::vector<device::Step> steps;
  std::vector<std::int32_t> sub_tiles;  // first keys of gathered boxes of box_rows rows
  std::vector<std::uint32_t> bitmaps;   // [bitmaps, device::fragment_words(keys)]
  int keys = 0;                         // of a step
  int box_rows = 0;                     // rows of a gathered box; keys when nothing is gathered
  bool has_packed = false;              // some items have (query, head) rows
  bool has_separate = false;            // some have rows of one head
  bool skips_parts = false;             // see PartSkips

  // Keeps the memory of the arrays.
  void clear();
};

// Tokens of the sequences before, in a ragged batch.
struct TokenBases {
  std::int32_t q = 0;
  std::int32_t kv = 0;
};
// Of each sequence. Throws InvalidArgument from 2^31 tokens on.
std::vector<TokenBases> token_bases(const AttentionShape& shape);

// Throws InvalidArgument unless the tiles of the schedule are those of gpu_tiling() for `sweep`.
void check_image_form(const Schedule& schedule, int head_dim, Sweep sweep);
// Throws InvalidArgument for sub-tiles that gpu_tiling() does not offer.
void check_gathers(const Schedule& schedule);

// Whether parts of an item test for themselves whether they have a step, which a batch decides for
// all of its sequences: kernels must give the same bits either way. A part that does not test has
// a bitmap of nothing.
enum class PartSkips { kIfMany, kAlways, kNever };

// What an image may be made of.
struct ImageChoice {
  FunctionRef<bool(const WorkItem&)> takes;  // only these items
  int box_rows = 0;                          // of gathered boxes; 0: as many as sub-tiles allow
  PartSkips part_skips = PartSkips::kIfMany;
  bool keeps_order = false;  // items as the schedule has them
};

// Throws as both of them, and for plans that gpu_tiling() does not offer.
ScheduleImage make_schedule_image(const Schedule& schedule, int head_dim);
// In the memory of an image that is not needed any more.
ScheduleImage make_schedule_image(const Schedule& schedule, int head_dim, const ImageChoice& choice,
                                  ScheduleImage memory = {});

// The query, counted inside the item, of each row of a tile whose rows are pairs with `heads`
// heads; -1: no query has it.
using QueriesOfRows = std::array<int, device::kTileRows>;
QueriesOfRows queries_of_rows(int heads);

// The bitmap of one tile in the order of registers. rows: which row of `words`, of words_per_row
// words each, every tile row has; -1: none, its columns are dead.
void append_fragments(std::span<const std::uint64_t> words, int words_per_row,
                      std::span<const int> rows, std::vector<std::uint32_t>& fragments);

}  // namespace perpend
