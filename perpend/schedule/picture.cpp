#include "perpend/schedule/picture.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

constexpr Image::Color kFull = {31, 78, 121};
constexpr Image::Color kLive = {68, 132, 196};
constexpr Image::Color kDeadInTile = {214, 228, 243};
constexpr Image::Color kGrid = {225, 225, 225};

Image::Color blend(Image::Color from, Image::Color to, double share) {
  Image::Color mixed{};
  for (std::size_t i = 0; i < 3; ++i) {
    mixed[i] = static_cast<std::uint8_t>(std::lround(from[i] + (to[i] - from[i]) * share));
  }
  return mixed;
}

// Live pairs of one query in [begin, end).
std::int64_t count_live(const BoundMask& mask, std::int64_t q, Range keys) {
  std::int64_t count = 0;
  for (std::int64_t k = keys.begin; k < keys.end; k += 64) {
    std::uint64_t bits = mask.word(Sweep::kRows, q, k);
    if (keys.end - k < 64) bits &= (std::uint64_t{1} << (keys.end - k)) - 1;
    count += std::popcount(bits);
  }
  return count;
}

// Share of live pairs in a rectangle; large ones are sampled along the queries.
double density_of(const BoundMask& mask, Range queries, Range keys) {
  const Answer answer = mask.answer(queries, keys);
  if (answer != Answer::kSome) return answer == Answer::kAll ? 1.0 : 0.0;
  const std::int64_t step = std::max<std::int64_t>(1, queries.size() / 16);
  std::int64_t live = 0;
  std::int64_t rows = 0;
  for (std::int64_t q = queries.begin; q < queries.end; q += step, ++rows) {
    live += count_live(mask, q, keys);
  }
  return static_cast<double>(live) / static_cast<double>(rows * keys.size());
}

// Share of live pairs in columns `columns` of a tile.
double live_share(const Schedule& schedule, const WorkItem& item, const TileEntry& tile,
                  Range columns) {
  if (tile.is_full()) return 1.0;
  std::int64_t live = 0;
  for (int row = 0; row < item.size; ++row) {
    const auto words = schedule.bitmaps.row(tile.bitmap, row);
    for (auto c = static_cast<std::size_t>(columns.begin);
         c < static_cast<std::size_t>(columns.end); ++c) {
      live += static_cast<std::int64_t>(words[c / 64] >> (c % 64) & 1U);
    }
  }
  return static_cast<double>(live) / static_cast<double>(item.size * columns.size());
}

// Cell `index` of `cells` equal parts of [0, length).
Range part(std::int64_t index, std::int64_t cells, std::int64_t length) {
  const std::int64_t begin = index * length / cells;
  return {begin, std::max((index + 1) * length / cells, begin + 1)};
}

}  // namespace

std::vector<PictureTile> picture_tiles(const Schedule& schedule) {
  std::vector<PictureTile> tiles;
  for (const WorkItem& item : schedule.items) {
    if (item.sequence != 0 || item.q_head != 0) continue;
    for (const TileEntry& entry : schedule.list_of(item, 0)) {
      schedule.for_pieces(
          entry, schedule.inner_len(0), [&](std::int32_t begin, int size, int column) {
            const double live = live_share(schedule, item, entry, {column, column + size});
            if (live > 0) tiles.push_back({begin, item.begin, size, item.size, live});
          });
    }
  }
  return tiles;
}

Image draw_schedule(const Schedule& schedule, const Mask& mask, int max_pixels) {
  const BoundMask bound(mask);
  const SequenceShape& sequence = schedule.shape.sequences.front();
  const std::int64_t longer = std::max(sequence.q_len, sequence.kv_len);
  // Small masks are magnified so that single pairs can be seen.
  const std::int64_t zoom =
      std::max<std::int64_t>(1, max_pixels / std::max<std::int64_t>(1, longer));
  const auto pixels = [&](std::int64_t length) {
    return static_cast<int>(std::max<std::int64_t>(
        1, longer * zoom <= max_pixels ? length * zoom : length * max_pixels / longer));
  };
  Image image(pixels(sequence.kv_len), pixels(sequence.q_len));
  const auto scaled = [&](std::int64_t position, std::int64_t length, int size) {
    return static_cast<int>(position * size / std::max<std::int64_t>(1, length));
  };
  for (const PictureTile& tile : picture_tiles(schedule)) {
    const int x_end = scaled(tile.x + tile.width, sequence.kv_len, image.width);
    const int y_end = scaled(tile.y + tile.height, sequence.q_len, image.height);
    for (int y = scaled(tile.y, sequence.q_len, image.height); y < y_end; ++y) {
      const Range rows = part(y, image.height, sequence.q_len);
      const Range queries{rows.begin + sequence.q_offset, rows.end + sequence.q_offset};
      for (int x = scaled(tile.x, sequence.kv_len, image.width); x < x_end; ++x) {
        const double density =
            tile.density == 1.0 ? 1.0
                                : density_of(bound, queries, part(x, image.width, sequence.kv_len));
        image.set(x, y, tile.density == 1.0 ? kFull : blend(kDeadInTile, kLive, density));
      }
    }
  }
  // Tile borders, where they are far enough apart to be of use.
  const int step = scaled(schedule.plan.inner_tile, sequence.kv_len, image.width);
  if (step < 8) return image;
  for (std::int64_t k = 0; k < sequence.kv_len; k += schedule.plan.inner_tile) {
    for (int y = 0; y < image.height; ++y) {
      image.set(scaled(k, sequence.kv_len, image.width), y, kGrid);
    }
  }
  for (std::int64_t q = 0; q < sequence.q_len; q += schedule.plan.outer_tile) {
    for (int x = 0; x < image.width; ++x) {
      image.set(x, scaled(q, sequence.q_len, image.height), kGrid);
    }
  }
  return image;
}

std::string draw_text(const Mask& mask, const SequenceShape& sequence, int max_columns) {
  const BoundMask bound(mask);
  const std::int64_t columns = std::clamp<std::int64_t>(sequence.kv_len, 1, max_columns);
  const std::int64_t rows = std::clamp<std::int64_t>(
      sequence.q_len * columns / std::max<std::int64_t>(1, sequence.kv_len), 1, 2 * max_columns);
  const auto live = [&](std::int64_t row, std::int64_t column) {
    if (row >= rows) return false;
    const Range q = part(row, rows, sequence.q_len);
    return density_of(bound, {q.begin + sequence.q_offset, q.end + sequence.q_offset},
                      part(column, columns, sequence.kv_len)) >= 0.5;
  };
  constexpr std::array<std::string_view, 4> kBlocks = {" ", "▀", "▄", "█"};
  std::string text;
  for (std::int64_t row = 0; row < rows; row += 2) {
    for (std::int64_t column = 0; column < columns; ++column) {
      text += kBlocks[(live(row, column) ? 1U : 0U) + (live(row + 1, column) ? 2U : 0U)];
    }
    text += '\n';
  }
  return text;
}

}  // namespace perpend
