#pragma once

#include <ostream>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/schedule/schedule.h"
#include "tests/mask/random_mask.h"

namespace perpend {

// What compile() gets, drawn at random: masks of one or several sequences, awkward shapes, tilings
// of every kind.
struct ScheduleCase {
  std::vector<Mask> masks;
  AttentionShape shape;
  Tiling tiling;
};

inline std::ostream& operator<<(std::ostream& out, const ScheduleCase& c) {
  out << "masks";
  for (const Mask& mask : c.masks) out << " '" << mask << "'";
  out << ", heads " << c.shape.num_q_heads << "/" << c.shape.num_kv_heads << ", sequences";
  for (const SequenceShape& s : c.shape.sequences) {
    out << " (" << s.q_len << ", " << s.kv_len << ", " << s.q_offset << ")";
  }
  const Tiling& t = c.tiling;
  out << ", tiles " << t.outer_tile << "/" << t.outer_part << " x " << t.inner_tile
      << ", sub-tiles";
  for (const int sub_tile : t.sub_tiles) out << " " << sub_tile;
  return out << (t.any_start ? ", any start" : "") << (t.any_outer_start ? ", any outer start" : "")
             << ", heads " << static_cast<int>(t.heads);
}

// Sequences of any lengths; with a `length` whole ones of that length and parts of such.
inline SequenceShape random_sequence(Random& random, std::int64_t scale, std::int64_t length) {
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random.next_below(static_cast<std::uint64_t>(bound)));
  };
  if (length == 0) return {below(scale), below(scale * 3 / 2), below(scale)};
  const std::int64_t q_offset = below(length);
  const SequenceShape part{below(length - q_offset + 1), below(length + 1), q_offset};
  const bool looks_whole = q_offset == 0 && part.q_len == part.kv_len;
  return below(2) == 0 || looks_whole ? SequenceShape{length, length, 0} : part;
}

inline AttentionShape random_shape(Random& random, std::int64_t scale, std::int64_t length) {
  AttentionShape shape;
  for (std::uint64_t i = 1 + random.next_below(3); i > 0; --i) {
    shape.sequences.push_back(random_sequence(random, scale, length));
  }
  if (random.next_below(2) == 0) shape.sequences.push_back(shape.sequences.front());
  shape.num_kv_heads = static_cast<int>(1 + random.next_below(2));
  shape.num_q_heads = shape.num_kv_heads * static_cast<int>(1 + random.next_below(4));
  return shape;
}

inline Tiling random_tiling(Random& random) {
  const auto below = [&](std::uint64_t bound) {
    return static_cast<int>(random.next_below(bound));
  };
  Tiling tiling = plain_tiling(1 + below(17), 1 + below(80));
  if (below(2) == 0) tiling.outer_tile *= 2;
  if (below(4) != 0) {
    // Sub-tiles of some powers of two, below the step.
    tiling.inner_tile = 8 << below(5);
    std::size_t place = 0;
    for (int sub_tile = std::max(1, tiling.inner_tile / 16);
         sub_tile < std::min(tiling.inner_tile, 65) && place < 4; sub_tile *= 2) {
      if (below(3) == 0) tiling.sub_tiles[place++] = sub_tile;
    }
  }
  tiling.any_start = below(2) == 0;
  tiling.any_outer_start = below(2) == 0;
  tiling.heads = static_cast<HeadRows>(below(3));
  tiling.costs.half_skipped = below(2) == 0 ? 0.72F : 0.5F;
  return tiling;
}

inline ScheduleCase random_schedule_case(Random& random, std::int64_t scale) {
  ScheduleCase c;
  const auto length = static_cast<std::int64_t>(
      random.next_below(2) * (1 + random.next_below(static_cast<std::uint64_t>(scale))));
  c.shape = random_shape(random, scale, length);
  const std::size_t num_masks = random.next_below(3) == 0 ? c.shape.sequences.size() : 1;
  MaskGenerator masks(random, scale, length);
  while (c.masks.size() < num_masks) c.masks.push_back(masks.mask(3));
  c.tiling = random_tiling(random);
  return c;
}

}  // namespace perpend
