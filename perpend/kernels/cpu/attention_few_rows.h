#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/few_rows_micro.h"

namespace perpend {

// Up to here the rows of an item are handled one by one, without packing keys.
constexpr int kFewRows = 8;

inline bool has_few_rows(const Schedule& schedule, const WorkItem& item) {
  return item.num_heads * item.size <= kFewRows && item.size <= schedule.plan_of(item).outer_part &&
         (item.list_stride == 0 || item.num_heads == 1);
}

// The forward pass of the items with few rows: their key lists are split over threads and the parts
// merged.
void attention_forward_few_rows(const FewRowsMicro& micro, const AttentionArgs& args,
                                const Schedule& schedule, Stream stream);

}  // namespace perpend
