#include "perpend/mask/label_node.h"

#include <algorithm>

#include "perpend/core/demand.h"

namespace perpend {
namespace {

using Kind = LabelNode::Kind;

// First position whose block number is at least `value`.
std::int64_t block_begin(const LabelNode& node, std::int64_t value) {
  const std::int64_t size = node.args[0];
  if (value >= kUnbounded / size) return kUnbounded;
  if (value <= -kUnbounded / size) return -kUnbounded;
  return value * size + node.args[1];
}

// The window index of a raster is row * columns + column of windows.
struct WindowGrid {
  explicit WindowGrid(const LabelNode& node)
      : width(node.args[1]),
        window_height(node.args[2]),
        window_width(node.args[3]),
        shift(node.args[4]),
        first_row(ceil_div(shift, window_height)),
        first_column(ceil_div(shift, window_width)),
        columns(column(width - 1) + 1) {}

  std::int64_t row(std::int64_t y) const { return floor_div(y - shift, window_height) + first_row; }
  std::int64_t column(std::int64_t x) const {
    return floor_div(x - shift, window_width) + first_column;
  }
  // First y of a row of windows, first x of a column of windows.
  std::int64_t row_begin(std::int64_t r) const {
    return std::max<std::int64_t>(0, (r - first_row) * window_height + shift);
  }
  std::int64_t column_begin(std::int64_t c) const {
    return std::clamp<std::int64_t>((c - first_column) * window_width + shift, 0, width);
  }

  std::int64_t at(std::int64_t position) const {
    return row(position / width) * columns + column(position % width);
  }
  Range run(std::int64_t position) const {
    const std::int64_t c = column(position % width);
    const std::int64_t line = position - position % width;
    return {line + column_begin(c), line + column_begin(c + 1)};
  }
  LabelRange range(Range positions) const {
    const std::int64_t first = positions.begin;
    const std::int64_t last = positions.end - 1;
    // A line begins inside the range in the first row of windows, or ends inside it in the last.
    const std::int64_t next_line = first - first % width + width;
    const bool from_left = next_line <= last && row(next_line / width) == row(first / width);
    const std::int64_t line_end = last - last % width - 1;
    const bool to_right = line_end >= first && row(line_end / width) == row(last / width);
    return {from_left ? row(first / width) * columns : at(first),
            to_right ? row(last / width) * columns + columns - 1 : at(last)};
  }
  std::int64_t leave(std::int64_t position, std::int64_t limit, LabelRange allowed) const {
    while (position < limit) {
      const std::int64_t r = row(position / width);
      const std::int64_t c = column(position % width);
      if (!allowed.contains(r * columns + c)) return position;
      const LabelRange whole{r * columns, r * columns + columns - 1};
      if (allowed.contains(whole)) {
        const std::int64_t not_whole = floor_div(allowed.max + 1, columns);
        position = row_begin(std::min(not_whole, row(limit / width) + 1)) * width;
      } else if (allowed.contains(whole.max)) {
        position += width - position % width;
      } else {
        return std::min(limit,
                        position - position % width + column_begin(allowed.max - r * columns + 1));
      }
    }
    return limit;
  }

  std::int64_t width, window_height, window_width, shift, first_row, first_column, columns;
};

// Labels of position mod size: the inner label again and again.
LabelRange within_range(const LabelNode& node, Range positions) {
  const std::int64_t size = node.args[0];
  const LabelNode& inner = node.inner->node();
  if (positions.size() >= size) return inner.range({0, size});
  const std::int64_t begin = positions.begin % size;
  const std::int64_t end = begin + positions.size();
  if (end <= size) return inner.range({begin, end});
  return inner.range({begin, size}).join(inner.range({0, end - size}));
}

std::int64_t within_leave(const LabelNode& node, std::int64_t position, std::int64_t limit,
                          LabelRange allowed) {
  const std::int64_t size = node.args[0];
  // Who passes one whole period passes all.
  for (int period = 0; period < 3 && position < limit; ++period) {
    const std::int64_t begin = position % size;
    const std::int64_t left = node.inner->node().leave(begin, size, allowed);
    position += left - begin;
    if (left < size) return std::min(position, limit);
  }
  return limit;
}

}  // namespace

bool LabelNode::is_bound() const {
  if (kind == Kind::kName) return inner.has_value();
  return !inner || inner->node().is_bound();
}

bool LabelNode::ascends() const {
  switch (kind) {
    case Kind::kBlock:
    case Kind::kFrame:
    case Kind::kCopy:
      return true;
    case Kind::kSegments:
    case Kind::kSegmentsAt:
    case Kind::kArray:
      return runs->ascends();
    case Kind::kName:
      return inner->node().ascends();
    case Kind::kWithin:
    case Kind::kWindow:
      return false;
  }
  bug("LabelNode::ascends: unknown kind");
}

std::int64_t LabelNode::at(std::int64_t position) const {
  switch (kind) {
    case Kind::kBlock:
    case Kind::kFrame:
      return floor_div(position - args[1], args[0]);
    case Kind::kCopy:
      return position < args[0] ? 0 : 1;
    case Kind::kSegments:
    case Kind::kSegmentsAt:
    case Kind::kArray:
      return runs->value(runs->index_of(position));
    case Kind::kWithin:
      return inner->node().at(position % args[0]);
    case Kind::kWindow:
      return WindowGrid(*this).at(position);
    case Kind::kName:
      demand(inner.has_value(), "mask: the label '", name, "' is not bound");
      return inner->node().at(position);
  }
  bug("LabelNode::at: unknown kind");
}

Range LabelNode::run(std::int64_t position) const {
  switch (kind) {
    case Kind::kBlock:
    case Kind::kFrame: {
      const std::int64_t begin = floor_div(position - args[1], args[0]) * args[0] + args[1];
      return {begin, begin + args[0]};
    }
    case Kind::kCopy:
      return position < args[0] ? Range{-kUnbounded, args[0]} : Range{args[0], kUnbounded};
    case Kind::kSegments:
    case Kind::kSegmentsAt:
    case Kind::kArray:
      return runs->run(runs->index_of(position));
    case Kind::kWithin: {
      const std::int64_t offset = position % args[0];
      const Range part = intersect(inner->node().run(offset), {0, args[0]});
      return {part.begin + position - offset, part.end + position - offset};
    }
    case Kind::kWindow:
      return WindowGrid(*this).run(position);
    case Kind::kName:
      return inner->node().run(position);
  }
  bug("LabelNode::run: unknown kind");
}

LabelRange LabelNode::range(Range positions) const {
  if (runs) return runs->range(positions);
  if (kind == Kind::kWithin) return within_range(*this, positions);
  if (kind == Kind::kWindow) return WindowGrid(*this).range(positions);
  if (kind == Kind::kName) return inner->node().range(positions);
  return {at(positions.begin), at(positions.end - 1)};
}

std::int64_t LabelNode::leave(std::int64_t position, std::int64_t limit, LabelRange allowed) const {
  if (runs) return std::min(limit, runs->leave(position, allowed));
  if (kind == Kind::kWithin) return within_leave(*this, position, limit, allowed);
  if (kind == Kind::kWindow) return WindowGrid(*this).leave(position, limit, allowed);
  if (kind == Kind::kName) return inner->node().leave(position, limit, allowed);
  const Range inside = positions_of(allowed);
  return inside.contains(position) ? std::min(limit, inside.end) : position;
}

Range LabelNode::positions_of(LabelRange values) const {
  const auto begin_of = [&](std::int64_t value) {
    if (runs) return runs->first_at_least(value);
    if (kind == Kind::kCopy) {
      return value <= 0 ? -kUnbounded : value == 1 ? args[0] : kUnbounded;
    }
    return block_begin(*this, value);
  };
  if (kind == Kind::kName) return inner->node().positions_of(values);
  return {begin_of(values.min), values.max >= kUnbounded ? kUnbounded : begin_of(values.max + 1)};
}

bool LabelNode::append_starts(Range positions, std::size_t most,
                              std::vector<std::int64_t>& result) const {
  if (kind == Kind::kWindow) return true;
  for (std::int64_t p = run(positions.begin).end; p < positions.end; p = run(p).end) {
    if (result.size() == most) return false;
    result.push_back(p);
  }
  return true;
}

std::optional<std::int64_t> LabelNode::extent() const {
  switch (kind) {
    case Kind::kSegments:
      return runs->starts().back();
    case Kind::kArray:
      return args[0];
    case Kind::kWindow:
      return args[0] * args[1];
    case Kind::kFrame:
      return args[0] * args[2];
    case Kind::kName:
      return inner->node().extent();
    default:
      return std::nullopt;
  }
}

}  // namespace perpend
