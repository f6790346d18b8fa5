#pragma once

#include <cstdint>

// What host and device know of a compiled schedule in a GPU's memory: plain structs and arithmetic.

namespace perpend::device {

constexpr int kPartRows = 64;             // rows of a part: one warpgroup's product
constexpr int kTileRows = 2 * kPartRows;  // rows of an item
constexpr int kTileThreads = 2 * 128;     // threads that hold a tile's scores
constexpr int kWordColumns = 64;          // columns that one fragment word covers
constexpr int kMaxBoxes = 8;              // boxes of gathered rows in a step

// Keys of one step, by the head dimension: wide accumulators leave room for fewer scores.
constexpr int keys_of_step(int head_dim) { return head_dim <= 128 ? 128 : 64; }

// One step of an item.
struct alignas(8) Step {
  static constexpr std::uint32_t kBothParts = 3;
  static constexpr std::uint32_t kHasBitmap = 1U << 2;
  static constexpr std::uint32_t kIsGathered = 1U << 3;
  static constexpr int kBoxesShift = 4;  // boxes of gathered rows, less one
  static constexpr std::uint32_t kBoxesMask = 7;
  static constexpr int kHalvesShift = 8;  // bit 2 p + h: part p has a live pair in half h
  static constexpr int kBitmapShift = 12;

  std::int32_t begin;   // first key, counted inside its sequence; gathered: index of its sub-tiles
  std::uint32_t flags;  // bit p: part p has a live pair; the others as named above
};

// One work item.
struct alignas(16) Item {
  std::int32_t q_begin;  // first query, counted inside its sequence
  std::int32_t q_size;   // queries
  std::int32_t q_head;   // first query head
  std::int32_t sequence;
  std::int32_t list_begin;   // first of its steps
  std::int32_t num_partial;  // steps with a bitmap or without all parts, which come first
  std::int32_t num_full;
  std::int32_t kv_head_and_packing;  // 2 * kv_head + (1: rows are (query, head) pairs of a group)
  std::int32_t q_base;               // tokens of the sequences before, in a ragged batch
  std::int32_t kv_base;
  std::int32_t q_offset;  // position of query 0
  std::int32_t kv_len;
  Step first;  // of its steps, if it has any
  // Decode: its first row among those whose values of o are added up with those of other items;
  // kUncut when no other item has its rows.
  std::int32_t split_row;
  std::int32_t unused;

  static constexpr std::int32_t kUncut = -1;
};

static_assert(sizeof(Item) == 64 && sizeof(Step) == 8);

// Where register j of the scores of a thread lies in the tile, j in [0, keys / 2), thread in
// [0, kTileThreads): the accumulator layout of wgmma m64nNk16, of which each warp's 16 rows are
// those of mma m16n8k16 too (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16").
constexpr int fragment_row(int thread, int j) {
  return thread / 32 * 16 + thread % 32 / 4 + 8 * (j / 2 % 2);
}
constexpr int fragment_column(int thread, int j) { return 8 * (j / 4) + 2 * (thread % 4) + j % 2; }
// The word and bit of a tile's fragment-order bitmap that stand for that register: 32 registers a
// word, the words of a thread side by side.
constexpr int fragment_word(int thread, int j, int keys) { return thread * (keys / 64) + j / 32; }
constexpr int fragment_bit(int j) { return j % 32; }
constexpr int fragment_words(int keys) { return kTileThreads * (keys / 64); }

}  // namespace perpend::device
