#include "perpend/mask/mask.h"

#include <algorithm>
#include <array>
#include <utility>

#include "perpend/core/demand.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/hash_mix.h"
#include "perpend/mask/label_node.h"
#include "perpend/mask/mask_node.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;

constexpr std::int64_t kMaxPosition = std::int64_t{1} << 40;
constexpr std::int64_t kMaxBlocks = std::int64_t{1} << 30;  // products of two stay far from 2^63
constexpr std::int64_t kMaxValue = std::int64_t{1} << 60;
constexpr std::size_t kMaxTable = 64;

Mask make(MaskNode node) {
  HashMix hash(static_cast<std::uint64_t>(node.kind) + 1);
  hash.add(node.a).add(node.b).add(node.c);
  for (const std::int64_t value : node.values) hash.add(value);
  for (const auto& spans : node.spans) {
    for (const HeadSpan& span : spans) {
      hash.add(std::int64_t{span.first}).add(std::int64_t{span.last});
    }
  }
  for (const Mask& child : node.children) hash.add(std::uint64_t{child.hash()});
  if (node.label) hash.add(std::uint64_t{node.label->hash()});
  for (const char letter : node.name) hash.add(static_cast<std::int64_t>(letter));
  if (node.tiles) hash.add(std::uint64_t{node.tiles->hash()});
  node.hash = hash.value();
  return Mask(std::make_shared<const MaskNode>(std::move(node)));
}

Mask make_labelled(Kind kind, const Label& label, std::vector<std::int64_t> values = {}) {
  MaskNode node{.kind = kind, .values = std::move(values)};
  node.label = label;
  return make(std::move(node));
}

void check_between(std::int64_t value, std::int64_t least, std::int64_t most,
                   std::string_view what) {
  check(value >= least && value <= most,
        concat("mask: ", what, " must be in [", least, ", ", most, "] (", value, ")"));
}

std::vector<std::int64_t> checked_values(std::vector<std::int64_t> values, std::string_view word) {
  check(!values.empty(), concat("mask: ", word, " needs at least one value"));
  for (const std::int64_t value : values) {
    check_between(value, -kMaxValue, kMaxValue, concat("a value of ", word));
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

// Whether `parts`, joined by `kind`, hold `mask` among them, or all children of it.
bool are_held(Kind kind, const std::vector<Mask>& parts, const Mask& mask) {
  const auto is_part = [&](const Mask& child) {
    return std::find(parts.begin(), parts.end(), child) != parts.end();
  };
  const auto& children = mask.node().children;
  return mask.node().kind == kind ? std::all_of(children.begin(), children.end(), is_part)
                                  : is_part(mask);
}

// The masks of one & or |: nested ones of the same kind flattened, equal ones kept once, `neutral`
// left out, absorbed ones (x & (x | y) = x) left out; `absorbing` when it is there, or x and ~x.
Mask join(Kind kind, std::span<const Mask> masks, const Mask& neutral, const Mask& absorbing) {
  std::vector<Mask> parts;
  for (const Mask& mask : masks) {
    const auto& children = mask.node().children;
    const bool flat = mask.node().kind == kind;
    parts.insert(parts.end(), flat ? children.data() : &mask,
                 flat ? children.data() + children.size() : &mask + 1);
  }
  const Kind other = kind == Kind::kAnd ? Kind::kOr : Kind::kAnd;
  const auto held = [&](const Mask& mask) { return are_held(kind, parts, mask); };
  std::vector<Mask> kept;
  for (const Mask& part : parts) {
    const MaskNode& node = part.node();
    if (part == absorbing) return absorbing;
    if (node.kind == Kind::kNot && held(node.children.front())) return absorbing;
    const bool absorbed =
        node.kind == other && std::any_of(node.children.begin(), node.children.end(), held);
    const bool known = std::find(kept.begin(), kept.end(), part) != kept.end();
    if (part != neutral && !absorbed && !known) kept.push_back(part);
  }
  if (kept.empty()) return neutral;
  if (kept.size() == 1) return kept.front();
  return make({.kind = kind, .children = std::move(kept)});
}

void collect_names(const Label& label, std::vector<std::string>& names) {
  const LabelNode& node = label.node();
  if (node.is_bound()) return;
  if (node.inner) return collect_names(*node.inner, names);
  if (std::find(names.begin(), names.end(), node.name) == names.end()) names.push_back(node.name);
}

void collect_names(const MaskNode& node, std::vector<std::string>& names) {
  if (node.label) collect_names(*node.label, names);
  if (node.kind == Kind::kTiles && !node.tiles &&
      std::find(names.begin(), names.end(), node.name) == names.end()) {
    names.push_back(node.name);
  }
  for (const Mask& child : node.children) collect_names(child.node(), names);
}

}  // namespace

const Mask& MaskNode::child_of_head(int q_head) const {
  for (std::size_t i = 0; i < spans.size(); ++i) {
    for (const HeadSpan& span : spans[i]) {
      if (span.first <= q_head && q_head <= span.last) return children[i];
    }
  }
  demand(has_rest, "mask: heads(...) names no mask for head ", q_head, "; add 'rest: ...'");
  return children.back();
}

Mask::Mask() : Mask(all()) {}
Mask::Mask(std::shared_ptr<const MaskNode> node) : node_(std::move(node)) {}

Mask Mask::all() {
  static const Mask mask = make({.kind = Kind::kAll});
  return mask;
}
Mask Mask::none() {
  static const Mask mask = make({.kind = Kind::kNone});
  return mask;
}
Mask Mask::causal() {
  static const Mask mask = make({.kind = Kind::kCausal});
  return mask;
}
Mask Mask::window(std::int64_t width) {
  check_between(width, 0, kMaxPosition, "window");
  return make({.kind = Kind::kWindow, .a = width, .b = kUnbounded});
}
Mask Mask::window(std::int64_t left, std::int64_t right) {
  check_between(left, 0, kMaxPosition, "window");
  check_between(right, 0, kMaxPosition, "window");
  return make({.kind = Kind::kWindow, .a = left, .b = right});
}
Mask Mask::sink(std::int64_t count) {
  check_between(count, 0, kMaxPosition, "sink");
  if (count == 0) return none();
  return make({.kind = Kind::kSink, .a = count});
}
Mask Mask::same(const Label& label) { return make_labelled(Kind::kSame, label); }
Mask Mask::upto(const Label& label) { return make_labelled(Kind::kUpto, label); }
Mask Mask::before(const Label& label) { return make_labelled(Kind::kBefore, label); }
Mask Mask::q_in(const Label& label, std::vector<std::int64_t> values) {
  return make_labelled(Kind::kQueryIn, label, checked_values(std::move(values), "q_in"));
}
Mask Mask::k_in(const Label& label, std::vector<std::int64_t> values) {
  return make_labelled(Kind::kKeyIn, label, checked_values(std::move(values), "k_in"));
}
Mask Mask::every(std::int64_t block_size, std::int64_t count, std::int64_t step) {
  check_between(block_size, 1, kMaxBlocks, "the block size of every");
  check_between(count, 1, kMaxBlocks, "the count of every");
  check_between(step, 0, kMaxBlocks, "the step of every");
  return make({.kind = Kind::kEvery, .a = block_size, .b = count, .c = step});
}
Mask Mask::near(std::int64_t block_size, std::int64_t count) {
  check_between(block_size, 1, kMaxBlocks, "the block size of near");
  check_between(count, 0, kMaxBlocks, "the count of near");
  return make({.kind = Kind::kNear, .a = block_size, .b = count});
}

Mask Mask::table(const Label& label, const std::vector<std::string>& rows) {
  check(!rows.empty() && rows.size() <= kMaxTable,
        concat("mask: a table must have 1 to ", kMaxTable, " rows (", rows.size(), ")"));
  std::vector<std::int64_t> bits;
  for (const std::string& row : rows) {
    check_eq(row.size(), rows.size(), "mask: a table must be square, a row has another length");
    std::uint64_t word = 0;
    for (std::size_t c = 0; c < row.size(); ++c) {
      check(row[c] == '0' || row[c] == '1',
            concat("mask: a row of a table must be of 0 and 1 (", row, ")"));
      word |= std::uint64_t{row[c] == '1'} << c;
    }
    bits.push_back(static_cast<std::int64_t>(word));
  }
  return make_labelled(Kind::kTable, label, std::move(bits));
}

Mask Mask::tiles(const std::string& name) {
  check_name(name);
  MaskNode node{.kind = Kind::kTiles};
  node.name = name;
  return make(std::move(node));
}

Mask Mask::heads(const std::vector<HeadChoice>& choices, const std::optional<Mask>& rest) {
  MaskNode node{.kind = Kind::kHeads, .has_rest = rest.has_value()};
  std::vector<HeadSpan> taken;
  for (const auto& [spans, mask] : choices) {
    check(!spans.empty(), "mask: heads needs at least one head for each mask");
    for (const HeadSpan& span : spans) {
      check(span.first >= 0 && span.first <= span.last,
            concat("mask: heads ", span.first, "-", span.last, " run backwards"));
      for (const HeadSpan& other : taken) {
        check(span.last < other.first || other.last < span.first,
              concat("mask: head ", std::max(span.first, other.first), " is given twice"));
      }
      taken.push_back(span);
    }
    node.spans.push_back(spans);
    node.children.push_back(mask);
  }
  if (rest) node.children.push_back(*rest);
  check(!node.children.empty(), "mask: heads needs at least one mask");
  const bool alike = std::all_of(node.children.begin(), node.children.end(),
                                 [&](const Mask& child) { return child == node.children.front(); });
  if (node.has_rest && alike) return node.children.front();
  return make(std::move(node));
}

Mask Mask::all_of(std::span<const Mask> masks) {
  return join(Kind::kAnd, masks, Mask::all(), Mask::none());
}

Mask Mask::any_of(std::span<const Mask> masks) {
  return join(Kind::kOr, masks, Mask::none(), Mask::all());
}

Mask operator&(const Mask& a, const Mask& b) { return Mask::all_of(std::array{a, b}); }
Mask operator|(const Mask& a, const Mask& b) { return Mask::any_of(std::array{a, b}); }

Mask operator~(const Mask& a) {
  if (a.node().kind == Kind::kNot) return a.node().children.front();
  if (a == Mask::all()) return Mask::none();
  if (a == Mask::none()) return Mask::all();
  return make({.kind = Kind::kNot, .children = {a}});
}

Mask Mask::bind(const Bindings& bindings) const {
  if (unbound_names().empty()) return *this;
  MaskNode node = *node_;
  if (node.label) node.label = bindings.bind(*node.label);
  if (const TileMap* tiles = bindings.tiles(node.name); tiles != nullptr && !node.tiles) {
    node.tiles = *tiles;
  }
  for (Mask& child : node.children) child = child.bind(bindings);
  return make(std::move(node));
}

std::vector<std::string> Mask::unbound_names() const {
  std::vector<std::string> names;
  collect_names(*node_, names);
  return names;
}

std::size_t Mask::hash() const { return node_->hash; }

bool operator==(const Mask& a, const Mask& b) {
  const MaskNode& x = *a.node_;
  const MaskNode& y = *b.node_;
  if (&x == &y) return true;
  return x.hash == y.hash && x.kind == y.kind && x.has_rest == y.has_rest && x.a == y.a &&
         x.b == y.b && x.c == y.c && x.values == y.values && x.spans == y.spans &&
         x.name == y.name && x.label == y.label && x.tiles == y.tiles && x.children == y.children;
}

std::ostream& operator<<(std::ostream& out, const Mask& mask) { return out << mask.str(); }

}  // namespace perpend
