#pragma once

#include <cstdint>

#include "perpend/kernels/attention_drift.h"

namespace perpend {

constexpr int kDriftRows = 16;      // of each kind that a CTA takes: window, tracked now and before
constexpr int kDriftKeys = 128;     // of a tile
constexpr int kDriftWarpKeys = 32;  // of a warp
constexpr int kDriftHeads = 4;      // query heads whose weights a CTA adds up

// How a GPU shares the work of attention_drift out, and how many values of `statistics` each of its
// parts takes, which lie there one behind another in this order.
struct DriftSplit {
  std::int32_t num_layers, canvas, num_q_heads;
  std::int32_t num_window, num_tracked, num_changed;
  bool by_keys;

  // All rows are in one order: the window, the tracked rows with their new queries, the tracked
  // rows with their old ones. Groups are of 16 rows of each.
  constexpr std::int64_t num_rows() const { return num_window + 2 * std::int64_t{num_tracked}; }
  constexpr std::int32_t num_window_groups() const { return pieces(num_window, kDriftRows); }
  constexpr std::int32_t num_groups() const {
    const std::int32_t tracked = pieces(num_tracked, kDriftRows);
    return tracked > num_window_groups() ? tracked : num_window_groups();
  }
  constexpr std::int32_t num_tiles() const { return pieces(canvas, kDriftKeys); }
  constexpr std::int32_t tile_keys() const { return num_tiles() * kDriftKeys; }
  constexpr std::int32_t num_head_groups() const { return pieces(num_q_heads, kDriftHeads); }

  // Tiles that a CTA takes of one head: four, or more where 8 parts would not hold a canvas.
  constexpr std::int32_t tiles_of_part() const {
    constexpr std::int32_t kFewest = 4;
    constexpr std::int32_t kMostParts = 8;
    const std::int32_t tiles = pieces(num_tiles(), kMostParts);
    return tiles > kFewest ? tiles : kFewest;
  }
  constexpr std::int32_t num_parts() const { return pieces(num_tiles(), tiles_of_part()); }
  // Behind the parts of the canvas one of the old keys.
  constexpr std::int32_t num_all_parts() const { return num_parts() + (num_changed > 0 ? 1 : 0); }
  // Of the keys of a canvas those that one warp has.
  constexpr std::int32_t num_warp_parts() const { return pieces(canvas, kDriftWarpKeys); }

  // [layers, heads, all parts, rows, 2]: largest score and sum of exponentials.
  constexpr std::int64_t part_at(std::int64_t layer, std::int32_t head, std::int32_t part) const {
    return ((layer * num_q_heads + head) * num_all_parts() + part) * num_rows();
  }
  constexpr std::int64_t part_values() const { return 2 * part_at(num_layers, 0, 0); }
  // What cosines are made of: [layers, head groups, tracked, 3, keys of whole tiles],
  constexpr std::int64_t products_at(std::int64_t layer, std::int32_t head_group,
                                     std::int32_t row) const {
    return ((layer * num_head_groups() + head_group) * num_tracked + row) * 3 * tile_keys();
  }
  // and by keys [layers, tracked, heads, warp parts, 3].
  constexpr std::int64_t products_by_keys_at(std::int64_t layer, std::int32_t row,
                                             std::int32_t head) const {
    return ((layer * num_tracked + row) * num_q_heads + head) * num_warp_parts() * 3;
  }
  constexpr std::int64_t products() const {
    return by_keys ? products_by_keys_at(num_layers, 0, 0) : products_at(num_layers, 0, 0);
  }
  // [layers, window groups, head groups, canvas]: sums of weights.
  constexpr std::int64_t weight_sums_at(std::int64_t layer, std::int32_t group,
                                        std::int32_t head_group) const {
    return ((layer * num_window_groups() + group) * num_head_groups() + head_group) * canvas;
  }
  constexpr std::int64_t weight_sums() const { return weight_sums_at(num_layers, 0, 0); }
  // [layers, heads, tracked, changed]: scores of old queries and old keys.
  constexpr std::int64_t old_scores_at(std::int64_t layer, std::int32_t head,
                                       std::int32_t row) const {
    return ((layer * num_q_heads + head) * num_tracked + row) * num_changed;
  }
  constexpr std::int64_t old_scores() const { return old_scores_at(num_layers, 0, 0); }
  // [layers, tiles]: sums of cosines.
  constexpr std::int64_t cosines() const { return std::int64_t{num_layers} * num_tiles(); }
  constexpr std::int64_t num_values() const {
    const std::int64_t counters = num_layers;  // of tiles whose cosines are there
    return part_values() + products() + weight_sums() + old_scores() + cosines() + counters;
  }

 private:
  static constexpr std::int32_t pieces(std::int32_t count, std::int32_t size) {
    return (count + size - 1) / size;
  }
};

DriftSplit drift_split(const AttentionDriftArgs& args);

}  // namespace perpend
