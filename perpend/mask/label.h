#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perpend {

struct LabelNode;

// A function from positions to integers, whose values masks compare: a value, cheap to copy,
// comparable, hashable, printable and parsable.
class Label {
 public:
  // `count` neighbouring runs of `length` positions each.
  struct Run {
    std::int64_t length = 0;
    std::int64_t count = 1;
    friend bool operator==(const Run&, const Run&) = default;
  };
  // A raster of height x width cells cut into windows, both axes moved by `shift`; windows that the
  // shift cuts at a border stay windows of their own (no wrap-around).
  struct GridWindow {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t window_height = 0;
    std::int64_t window_width = 0;
    std::int64_t shift = 0;
    friend bool operator==(const GridWindow&, const GridWindow&) = default;
  };

  static Label block(std::int64_t size, std::int64_t start = 0);  // floor((position - start)/size)
  static Label segments(const std::vector<Run>& runs);            // index of the run
  // The same by where runs begin: the first at 0, ascending; the last run has no end, so that an
  // indptr with its total as last entry says the same as one without.
  static Label segments_at(const std::vector<std::int64_t>& starts);
  static Label copy(std::int64_t size);                 // 0 below `size`, 1 from there on
  static Label within(std::int64_t size, Label label);  // label of position mod size
  static Label grid_window(const GridWindow& grid);     // window index of a raster position
  // Index of the frame of height * width positions, of `frames` frames.
  static Label grid_frame(std::int64_t frames, std::int64_t height, std::int64_t width);
  static Label named(std::string name);  // to be bound, see Mask::bind()
  // One value for each position, each within +-2^60. Prints as `array`: bind it to a name.
  static Label array(std::span<const std::int64_t> values);
  // The same by where runs of equal values begin: the first at 0, ascending; the last run has no
  // end, so that parts of a sequence of any length may ask.
  static Label runs(std::span<const std::int64_t> starts, std::span<const std::int64_t> values);

  // The label of a position (>= 0). Throws InvalidArgument when a name is not bound.
  std::int64_t at(std::int64_t position) const;

  // Text that parse_label() reads back to an equal value, as long as no name is bound: a bound name
  // prints as its name.
  std::string str() const;
  std::size_t hash() const;
  friend bool operator==(const Label& a, const Label& b);

  const LabelNode& node() const { return *node_; }
  explicit Label(std::shared_ptr<const LabelNode> node);

 private:
  std::shared_ptr<const LabelNode> node_;
};

std::ostream& operator<<(std::ostream& out, const Label& label);

// Reads `block(n) block(n, start) segments(160*101, 224) segments_at(0, 160, 512) copy(n)
// within(n, L) grid(h, w).window(a, b) grid(h, w).window(a, b, shift) grid(f, h, w).frame` or a
// name. Throws InvalidArgument with the column (from 1) and what was expected.
Label parse_label(std::string_view text);

}  // namespace perpend

template <>
struct std::hash<perpend::Label> {
  std::size_t operator()(const perpend::Label& label) const { return label.hash(); }
};
