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

// Share of live pairs in `rows` x `columns` of a step.
double live_share(const Schedule& schedule, const TileEntry& step, Range rows, Range columns) {
  if (step.is_full()) return 1.0;
  std::int64_t live = 0;
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const auto words = schedule.bitmaps.row(step.bitmap(), static_cast<int>(row));
    for (auto c = static_cast<std::size_t>(columns.begin);
         c < static_cast<std::size_t>(columns.end); ++c) {
      live += static_cast<std::int64_t>(words[c / 64] >> (c % 64) & 1U);
    }
  }
  return static_cast<double>(live) / static_cast<double>(rows.size() * columns.size());
}

// Cell `index` of `cells` equal parts of [0, length).
Range part(std::int64_t index, std::int64_t cells, std::int64_t length) {
  const std::int64_t begin = index * length / cells;
  return {begin, std::max((index + 1) * length / cells, begin + 1)};
}

// The pixel of a position on an axis of `length` positions.
int pixel(std::int64_t position, std::int64_t length, int size) {
  return static_cast<int>(position * size / std::max<std::int64_t>(1, length));
}

// What a picture is drawn from: pixels stand for equal parts of both axes.
struct Canvas {
  BoundMask mask;
  SequenceShape sequence;

  Range columns_of(const PictureTile& tile, const Image& image) const {
    return {pixel(tile.x, sequence.kv_len, image.width),
            pixel(tile.x + tile.width, sequence.kv_len, image.width)};
  }
  Range rows_of(const PictureTile& tile, const Image& image) const {
    return {pixel(tile.y, sequence.q_len, image.height),
            pixel(tile.y + tile.height, sequence.q_len, image.height)};
  }
  Image::Color shade(const PictureTile& tile, int x, int y, const Image& image) const {
    if (tile.density == 1.0) return kFull;
    const Range rows = part(y, image.height, sequence.q_len);
    const Range queries{rows.begin + sequence.q_offset, rows.end + sequence.q_offset};
    return blend(kDeadInTile, kLive,
                 density_of(mask, queries, part(x, image.width, sequence.kv_len)));
  }
  void fill(const PictureTile& tile, Image& image) const {
    const Range columns = columns_of(tile, image);
    const Range rows = rows_of(tile, image);
    for (auto y = static_cast<int>(rows.begin); y < rows.end; ++y) {
      for (auto x = static_cast<int>(columns.begin); x < columns.end; ++x) {
        image.set(x, y, shade(tile, x, y, image));
      }
    }
  }
  // The left and the upper border.
  void outline(const PictureTile& tile, Image& image) const {
    const Range columns = columns_of(tile, image);
    const Range rows = rows_of(tile, image);
    const auto left = static_cast<int>(columns.begin);
    const auto top = static_cast<int>(rows.begin);
    for (int y = top; y < rows.end; ++y) image.set(left, y, kGrid);
    for (int x = left; x < columns.end; ++x) image.set(x, top, kGrid);
  }
};

}  // namespace

std::vector<PictureTile> picture_tiles(const Schedule& schedule) {
  std::vector<PictureTile> tiles;
  const bool rows_down = schedule.sweep == Sweep::kRows;
  const std::int64_t part = schedule.plans.front().outer_part;
  const auto add_step = [&](const WorkItem& item, const TileEntry& step, Range outer) {
    schedule.for_pieces(step, schedule.inner_len(0), [&](std::int32_t begin, int size, int column) {
      const double live = live_share(schedule, step, outer, {column, column + size});
      if (live == 0) return;
      const std::int64_t first = item.begin + outer.begin;
      tiles.push_back(rows_down ? PictureTile{begin, first, size, outer.size(), live}
                                : PictureTile{first, begin, outer.size(), size, live});
    });
  };
  for (const WorkItem& item : schedule.items) {
    if (item.sequence != 0 || item.q_head != 0) continue;
    for (const TileEntry& step : schedule.list_of(item, 0)) {
      // Parts that are needed alike are drawn as one.
      const bool one = step.live_parts() == 3 && item.size > part;
      if (one) add_step(item, step, {0, item.size});
      for (std::int64_t p = 0; !one && p * part < item.size; ++p) {
        if ((step.live_parts() >> p & 1U) == 0) continue;
        add_step(item, step, {p * part, std::min<std::int64_t>((p + 1) * part, item.size)});
      }
    }
  }
  return tiles;
}

Image draw_schedule(const Schedule& schedule, const Mask& mask, int max_pixels) {
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
  const Canvas canvas{BoundMask(mask), sequence};
  for (const PictureTile& tile : picture_tiles(schedule)) canvas.fill(tile, image);
  // Tile borders, where they are far enough apart to be of use.
  if (pixel(schedule.plan.inner_tile, sequence.kv_len, image.width) < 8) return image;
  for (const PictureTile& tile : picture_tiles(schedule)) canvas.outline(tile, image);
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
