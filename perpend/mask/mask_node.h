#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perpend/mask/label.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/run_index.h"
#include "perpend/mask/tile_map.h"

namespace perpend {

// The inside of a Mask.
struct MaskNode {
  enum class Kind : std::uint8_t {
    kAll,
    kNone,
    kCausal,
    kWindow,  // a keys to the left, b to the right (kUnbounded when not given)
    kSink,    // a: count
    kSame,    // label
    kUpto,
    kBefore,
    kQueryIn,  // label, values ascending
    kKeyIn,
    kEvery,  // a: block size, b: count, c: step
    kNear,   // a: block size, b: count
    kTable,  // label, values: rows as bits, bit c for column c
    kTiles,  // name, tiles when bound
    kHeads,  // children, spans of each; the last child without spans when has_rest
    kNot,
    kAnd,
    kOr,
  };

  Kind kind = Kind::kAll;
  bool has_rest = false;
  std::int64_t a = 0;
  std::int64_t b = 0;
  std::int64_t c = 0;
  std::vector<std::int64_t> values{};
  std::vector<std::vector<HeadSpan>> spans{};
  std::vector<Mask> children{};
  std::optional<Label> label{};
  std::string name{};
  std::optional<TileMap> tiles{};
  std::size_t hash = 0;

  bool is_joined() const { return kind == Kind::kAnd || kind == Kind::kOr; }
  // What `heads(...)` says for one query head. Throws InvalidArgument when it says nothing.
  const Mask& child_of_head(int q_head) const;
};

}  // namespace perpend
