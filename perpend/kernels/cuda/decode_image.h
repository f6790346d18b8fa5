#pragma once

#include <cstdint>
#include <vector>

#include "perpend/kernels/attention_plan.h"
#include "perpend/kernels/cuda/device/decode_image.h"
#include "perpend/kernels/cuda/schedule_image.h"

namespace perpend {

// Rows of a gathered box: the same for all images, since a captured launch has it in its arguments.
constexpr int kDecodeBoxRows = 16;

// A row schedule as the decode kernel reads it: long lists are cut into several items, whose rows
// are added up in the order of the list. Made without a GPU.
struct DecodeImage {
  ScheduleImage lists;              // its items are those before lists are cut
  std::vector<device::Item> items;  // longest first
  std::vector<device::SplitSum> sums;
  std::int64_t split_rows = 0;  // of the workspace
};

// An item before its list is cut.
struct UncutItem {
  std::int64_t steps = 0;
  std::int64_t rows = 0;
  std::int64_t items_of_sequence = 0;

  friend bool operator==(const UncutItem&, const UncutItem&) = default;
};

// Into how many items the list of one is cut. Of a sequence alone as many as occupy a GPU once, if
// each is left at least 256 keys; twice, which evens out better, if each is left 1024. Many rows
// need more keys, or o would be more bytes than they.
int num_cuts(const UncutItem& item, int keys_of_step);
// At most, of a sequence that has at most so many items of at most so many steps: the items after
// cutting, and those before of which some are cut.
std::int64_t most_pieces(std::int64_t items, std::int64_t steps, int keys_of_step);
std::int64_t most_items_cut(std::int64_t items, std::int64_t steps, int keys_of_step);

// Whether the decode kernel is the one for a sequence whose keys are not paged: its queries are one
// item of each head, and few for its keys. Whoever shares the batch has no say in it.
bool has_few_rows(const Schedule& schedule, std::int32_t sequence);

// In the memory of an image that is not needed any more. Throws as make_schedule_image().
DecodeImage make_decode_image(const Schedule& schedule, int head_dim,
                              FunctionRef<bool(const WorkItem&)> takes, DecodeImage memory = {});
DecodeImage make_decode_image(const Schedule& schedule, int head_dim, DecodeImage memory = {});

// What an image takes up.
PlanCapacity size_of(const DecodeImage& image);
// Room for `schedule` and others like it (see plan_capacity() in attention_plan.h): bounds that
// hold for any mask, whatever the lengths do to the tiles that are live.
PlanCapacity decode_capacity(const Schedule& schedule, int head_dim);

}  // namespace perpend
