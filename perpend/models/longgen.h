#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/mask/mask.h"

namespace perpend {

// LongGen (arXiv:2410.01485): a model of the Llama family whose outer layers see only some blocks
// of tokens, by position alone, and whose middle layers see everything ("hourglass").
struct LongGen {
  enum class Variant : std::uint8_t { kSink, kStrided };  // "as" and "bs" of the paper

  Variant variant = Variant::kSink;
  std::int64_t block_size = 64;  // tokens
  std::int64_t n_full = 0;       // layers [lo, lo + n_full) see everything
  std::int64_t lo = 0;
  std::int64_t sink_blocks = 0;    // at the beginning, seen by all
  std::int64_t window_blocks = 0;  // the last ones, that of the query included
  std::int64_t stride_blocks = 0;  // kStrided: every so many blocks one is seen by all; else 0
  // kStrided: blocks by which those move from one key/value head to the next; 0: all heads alike.
  std::int64_t head_shift = 0;

  bool is_full(std::int64_t layer) const { return lo <= layer && layer < lo + n_full; }
  friend bool operator==(const LongGen&, const LongGen&) = default;
};

// The preset that makes it, with every parameter: "longgen-as(n_full=12, lo=10, ...)".
std::ostream& operator<<(std::ostream& out, const LongGen& longgen);

// A number of LongGen under its key in config.json and its name in a preset, with the values that
// make sense by themselves.
struct LongGenField {
  std::string_view key;
  std::string_view name;
  std::int64_t LongGen::*value;
  std::int64_t least;
  std::int64_t most;
};
std::span<const LongGenField> longgen_fields();

std::string_view name_of(LongGen::Variant variant);  // "as", "bs"

// What the paper settles on: blocks of 64, 1 sink block and a window of 31, or a window of 16 and
// every 128th block; round(3/8 num_layers) full layers in the middle.
LongGen default_longgen(LongGen::Variant variant, int num_layers);

// The middle: floor((num_layers - n_full) / 2).
std::int64_t hourglass_start(std::int64_t n_full, int num_layers);

// Reads "longgen-as" or "longgen-bs", with parameters that are to differ from default_longgen():
//   longgen-bs(n_full=11, window=8, stride=64, head_shift=auto)
// Names are those of longgen_fields(); lo follows n_full unless it is given; head_shift=auto
// spreads the blocks of the heads over the stride: max(1, floor(stride / num_kv_heads)). Throws
// InvalidArgument with the column (from 1) for anything else.
LongGen parse_preset(std::string_view text, int num_layers, int num_kv_heads);

// Empty, or which key can not have its value in a model of num_layers layers, and what was
// expected.
std::string longgen_fault(const LongGen& longgen, int num_layers);

// What one sparse layer sees, and the masks of all layers.
Mask sparse_mask(const LongGen& longgen);
std::vector<Mask> layer_masks(const LongGen& longgen, int num_layers);

}  // namespace perpend
