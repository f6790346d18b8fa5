#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/label.h"
#include "perpend/mask/run_index.h"

namespace perpend {

// The inside of a Label. What masks ask of labels goes through the few questions below; names must
// be bound for them (see without_names()).
struct LabelNode {
  enum class Kind : std::uint8_t {
    kBlock,       // args: size, start
    kSegments,    // runs, and groups as written
    kSegmentsAt,  // runs, and args[0] as how many starts were written
    kCopy,        // args: size
    kWithin,      // args: size; inner
    kWindow,      // args: height, width, window height, window width, shift
    kFrame,       // args: height * width as size, 0 as start, frames, height, width
    kName,        // name; inner when bound
    kArray,       // runs; args[0] as its length, or kNoEnd
  };
  static constexpr std::int64_t kNoEnd = -1;

  Kind kind = Kind::kBlock;
  std::array<std::int64_t, 5> args{};
  std::string name{};
  std::optional<Label> inner{};
  std::vector<Label::Run> groups{};
  std::vector<std::int64_t> starts{};
  std::shared_ptr<const RunIndex> runs{};
  std::size_t hash = 0;

  bool is_bound() const;  // no name in it lacks a label
  bool ascends() const;   // whether labels never fall from one position to the next

  std::int64_t at(std::int64_t position) const;
  // Positions around `position` of the same label; all of them when labels ascend.
  Range run(std::int64_t position) const;
  // Least and greatest label of `positions`, which are not none.
  LabelRange range(Range positions) const;
  // First position in [position, limit) whose label is not in `allowed`, else `limit`.
  std::int64_t leave(std::int64_t position, std::int64_t limit, LabelRange allowed) const;
  // Positions whose labels are in `values`, when labels ascend.
  Range positions_of(LabelRange values) const;
  // How many positions the label is given for; none when for all there are.
  std::optional<std::int64_t> extent() const;
  // Appends positions inside `positions`, without their begin, at which a part begins (a block, a
  // segment, a copy, a period; not a window, which is no interval). False when `result` would grow
  // beyond `most`.
  bool append_starts(Range positions, std::size_t most, std::vector<std::int64_t>& result) const;
};

// A name that stands for `label` from now on.
Label bound_name(const Label& name, const Label& label);

// The label with names replaced by what they are bound to. Throws InvalidArgument naming one that
// is not bound.
Label without_names(const Label& label);

}  // namespace perpend
