#include "perpend/mask/label.h"

#include <algorithm>
#include <utility>

#include "perpend/core/demand.h"
#include "perpend/mask/hash_mix.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

using Kind = LabelNode::Kind;

constexpr std::int64_t kMaxSize = std::int64_t{1} << 30;
constexpr std::int64_t kMaxPosition = std::int64_t{1} << 40;
constexpr std::int64_t kMaxValue = std::int64_t{1} << 60;
constexpr std::int64_t kMaxRuns = std::int64_t{1} << 22;

void check_between(std::int64_t value, std::int64_t least, std::int64_t most,
                   std::string_view what) {
  demand(value >= least && value <= most, "mask: ", what, " must be in [", least, ", ", most, "] (",
         value, ")");
}

Label make(LabelNode node) {
  HashMix hash(static_cast<std::uint64_t>(node.kind) + 1);
  for (const std::int64_t arg : node.args) hash.add(arg);
  for (const char letter : node.name) hash.add(static_cast<std::int64_t>(letter));
  if (node.inner) hash.add(std::uint64_t{node.inner->hash()});
  if (node.runs) hash.add(std::uint64_t{node.runs->hash()});
  node.hash = hash.value();
  return Label(std::make_shared<const LabelNode>(std::move(node)));
}

// Runs of labels 0, 1, ... that begin at `starts`; empty ones hold no position.
std::shared_ptr<const RunIndex> counted_runs(const std::vector<std::int64_t>& starts) {
  std::vector<std::int64_t> kept;
  std::vector<std::int64_t> values;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (i + 1 < starts.size() && starts[i + 1] == starts[i]) continue;
    kept.push_back(starts[i]);
    values.push_back(static_cast<std::int64_t>(i));
  }
  return std::make_shared<const RunIndex>(std::move(kept), std::move(values));
}

std::string text_of(const Label::Run& run) {
  return run.count == 1 ? concat(run.length) : concat(run.length, "*", run.count);
}

template <class Items, class Text>
std::string joined(const Items& items, Text text) {
  std::string result;
  for (const auto& item : items) result += concat(result.empty() ? "" : ", ", text(item));
  return result;
}

}  // namespace

Label::Label(std::shared_ptr<const LabelNode> node) : node_(std::move(node)) {}

Label Label::block(std::int64_t size, std::int64_t start) {
  check_between(size, 1, kMaxSize, "the size of a block");
  check_between(start, 0, kMaxPosition, "the start of blocks");
  return make({.kind = Kind::kBlock, .args = {size, start}});
}

Label Label::segments(const std::vector<Run>& runs) {
  check(!runs.empty(), "mask: segments needs at least one length");
  LabelNode node{.kind = Kind::kSegments};
  std::vector<std::int64_t> starts;
  std::int64_t total = 0;
  std::int64_t num_runs = 0;
  for (const Run& run : runs) {
    check_between(run.length, 0, kMaxPosition, "the length of a segment");
    check_between(run.count, 1, kMaxRuns, "the count of a segment");
    num_runs += run.count;
    demand(num_runs <= kMaxRuns, "mask: more than ", kMaxRuns, " segments");
    for (std::int64_t i = 0; i < run.count; ++i, total += run.length) {
      demand(total <= kMaxPosition, "mask: segments longer than ", kMaxPosition);
      starts.push_back(total);
    }
    const bool repeats = !node.groups.empty() && node.groups.back().length == run.length;
    if (repeats) node.groups.back().count += run.count;
    if (!repeats) node.groups.push_back(run);
  }
  starts.push_back(total);  // where positions are of no segment
  node.runs = counted_runs(starts);
  return make(std::move(node));
}

Label Label::segments_at(const std::vector<std::int64_t>& starts) {
  check(!starts.empty() && starts.front() == 0, "mask: the first segment must begin at 0");
  check(starts.size() <= static_cast<std::size_t>(kMaxRuns),
        concat("mask: more than ", kMaxRuns, " segments"));
  check_between(starts.back(), 0, kMaxPosition, "the start of a segment");
  check(std::is_sorted(starts.begin(), starts.end()), "mask: starts of segments must ascend");
  LabelNode node{.kind = Kind::kSegmentsAt, .starts = starts};
  node.args[0] = static_cast<std::int64_t>(starts.size());
  node.runs = counted_runs(starts);
  return make(std::move(node));
}

Label Label::copy(std::int64_t size) {
  check_between(size, 0, kMaxPosition, "the size of a copy");
  return make({.kind = Kind::kCopy, .args = {size}});
}

Label Label::within(std::int64_t size, Label label) {
  check_between(size, 1, kMaxPosition, "the size of within");
  LabelNode node{.kind = Kind::kWithin, .args = {size}};
  node.inner = std::move(label);
  return make(std::move(node));
}

Label Label::grid_window(const GridWindow& grid) {
  for (const std::int64_t side : {grid.height, grid.width, grid.window_height, grid.window_width}) {
    check_between(side, 1, kMaxSize, "the side of a grid or window");
  }
  check_between(grid.shift, 0, kMaxSize, "the shift of windows");
  check_between(grid.height * grid.width, 1, kMaxPosition, "the size of a grid");
  return make(
      {.kind = Kind::kWindow,
       .args = {grid.height, grid.width, grid.window_height, grid.window_width, grid.shift}});
}

Label Label::grid_frame(std::int64_t frames, std::int64_t height, std::int64_t width) {
  for (const std::int64_t side : {frames, height, width}) {
    check_between(side, 1, kMaxSize, "the side of a grid");
  }
  check_between(height * width, 1, kMaxSize, "the size of a frame");
  return make({.kind = Kind::kFrame, .args = {height * width, 0, frames, height, width}});
}

Label Label::named(std::string name) {
  check_name(name);
  LabelNode node{.kind = Kind::kName};
  node.name = std::move(name);
  return make(std::move(node));
}

Label Label::array(std::span<const std::int64_t> values) {
  std::vector<std::int64_t> starts;
  std::vector<std::int64_t> run_values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    check_between(values[i], -kMaxValue, kMaxValue, "a value of a label");
    if (i > 0 && values[i] == values[i - 1]) continue;
    starts.push_back(static_cast<std::int64_t>(i));
    run_values.push_back(values[i]);
  }
  check(!starts.empty(), "mask: an array label needs at least one value");
  LabelNode node{.kind = Kind::kArray};
  node.args[0] = static_cast<std::int64_t>(values.size());
  node.runs = std::make_shared<const RunIndex>(std::move(starts), std::move(run_values));
  return make(std::move(node));
}

Label Label::runs(std::span<const std::int64_t> starts, std::span<const std::int64_t> values) {
  check(!starts.empty() && starts.front() == 0, "mask: the first run must begin at 0");
  check_eq(starts.size(), values.size(), "mask: starts and values of runs differ");
  std::vector<std::int64_t> kept;
  std::vector<std::int64_t> kept_values;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    check_between(starts[i], i == 0 ? 0 : starts[i - 1] + 1, kMaxPosition, "the start of a run");
    check_between(values[i], -kMaxValue, kMaxValue, "a value of a label");
    if (i > 0 && values[i] == kept_values.back()) continue;
    kept.push_back(starts[i]);
    kept_values.push_back(values[i]);
  }
  LabelNode node{.kind = Kind::kArray};
  node.args[0] = LabelNode::kNoEnd;
  node.runs = std::make_shared<const RunIndex>(std::move(kept), std::move(kept_values));
  return make(std::move(node));
}

Label bound_name(const Label& name, const Label& label) {
  LabelNode node = name.node();
  node.inner = label;
  return make(std::move(node));
}

Label without_names(const Label& label) {
  const LabelNode& node = label.node();
  if (node.kind == Kind::kName) {
    check(node.inner.has_value(), concat("mask: the label '", node.name,
                                         "' is not bound; bind it to another label or to "
                                         "one integer for each position"));
    return without_names(*node.inner);
  }
  if (!node.inner) return label;
  return Label::within(node.args[0], without_names(*node.inner));
}

std::int64_t Label::at(std::int64_t position) const {
  demand(position >= 0, "mask: a position must not be negative (", position, ")");
  return node_->at(position);
}

std::string Label::str() const {
  const auto& args = node_->args;
  switch (node_->kind) {
    case Kind::kBlock:
      return args[1] == 0 ? concat("block(", args[0], ")")
                          : concat("block(", args[0], ", ", args[1], ")");
    case Kind::kSegments:
      return concat("segments(", joined(node_->groups, text_of), ")");
    case Kind::kSegmentsAt:
      return concat("segments_at(", joined(node_->starts, [](std::int64_t start) { return start; }),
                    ")");
    case Kind::kCopy:
      return concat("copy(", args[0], ")");
    case Kind::kWithin:
      return concat("within(", args[0], ", ", node_->inner->str(), ")");
    case Kind::kWindow:
      return concat("grid(", args[0], ", ", args[1], ").window(", args[2], ", ", args[3],
                    args[4] == 0 ? "" : concat(", ", args[4]), ")");
    case Kind::kFrame:
      return concat("grid(", args[2], ", ", args[3], ", ", args[4], ").frame");
    case Kind::kName:
      return node_->name;
    case Kind::kArray:
      return "array";
  }
  bug("Label::str: unknown kind");
}

std::size_t Label::hash() const { return node_->hash; }

bool operator==(const Label& a, const Label& b) {
  const LabelNode& x = *a.node_;
  const LabelNode& y = *b.node_;
  if (&x == &y) return true;
  if (x.hash != y.hash || x.kind != y.kind || x.args != y.args || x.name != y.name) return false;
  if (x.inner != y.inner) return false;
  return x.runs == y.runs || (x.runs && y.runs && *x.runs == *y.runs);
}

std::ostream& operator<<(std::ostream& out, const Label& label) { return out << label.str(); }

}  // namespace perpend
