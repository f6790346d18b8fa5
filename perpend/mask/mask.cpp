#include "perpend/mask/mask.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;

std::shared_ptr<const MaskNode> make_node(Kind kind, std::int64_t a = 0, std::int64_t b = 0,
                                          std::vector<Mask> children = {}) {
  return std::make_shared<const MaskNode>(MaskNode{kind, a, b, std::move(children)});
}

constexpr std::int64_t kMaxArgument = std::int64_t{1} << 40;

void check_argument(std::int64_t value, std::string_view name) {
  check(value >= 0 && value <= kMaxArgument,
        concat("mask: ", name, " must be in [0, ", kMaxArgument, "] (", value, ")"));
}

// Children of a & or | with nested ones of the same kind flattened, equals dropped, `neutral`
// dropped.
std::vector<Mask> gather(Kind kind, const Mask& x, const Mask& y, const Mask& neutral) {
  std::vector<Mask> children;
  const auto add = [&](const Mask& child) {
    const bool known = std::find(children.begin(), children.end(), child) != children.end();
    if (!known && child != neutral) children.push_back(child);
  };
  for (const Mask* side : {&x, &y}) {
    if (side->node().kind == kind) {
      for (const Mask& child : side->node().children) add(child);
    } else {
      add(*side);
    }
  }
  return children;
}

}  // namespace

Range MaskNode::band(std::int64_t q) const {
  switch (kind) {
    case Kind::kCausal:
      return {-kUnbounded, q + 1};
    case Kind::kWindow:
      return {q - a + 1, b == kUnbounded ? kUnbounded : q + b};
    case Kind::kSink:
      return {-kUnbounded, a};
    case Kind::kAll:
      return {-kUnbounded, kUnbounded};
    default:
      return {kUnbounded, -kUnbounded};
  }
}

Range MaskNode::column_band(std::int64_t k) const {
  switch (kind) {
    case Kind::kCausal:
      return {k, kUnbounded};
    case Kind::kWindow:
      return {b == kUnbounded ? -kUnbounded : k - b + 1, k + a};
    case Kind::kSink:
      return k < a ? Range{-kUnbounded, kUnbounded} : Range{kUnbounded, -kUnbounded};
    case Kind::kAll:
      return {-kUnbounded, kUnbounded};
    default:
      return {kUnbounded, -kUnbounded};
  }
}

Mask::Mask() : Mask(all()) {}
Mask::Mask(std::shared_ptr<const MaskNode> node) : node_(std::move(node)) {}

Mask Mask::all() {
  static const auto node = make_node(Kind::kAll);
  return Mask(node);
}
Mask Mask::none() {
  static const auto node = make_node(Kind::kNone);
  return Mask(node);
}
Mask Mask::causal() {
  static const auto node = make_node(Kind::kCausal);
  return Mask(node);
}
Mask Mask::window(std::int64_t width) {
  check_argument(width, "window");
  return Mask(make_node(Kind::kWindow, width, MaskNode::kUnbounded));
}
Mask Mask::window(std::int64_t left, std::int64_t right) {
  check_argument(left, "window");
  check_argument(right, "window");
  return Mask(make_node(Kind::kWindow, left, right));
}
Mask Mask::sink(std::int64_t count) {
  check_argument(count, "sink");
  return Mask(make_node(Kind::kSink, count));
}

Mask operator&(const Mask& a, const Mask& b) {
  if (a == Mask::none() || b == Mask::none()) return Mask::none();
  auto children = gather(Kind::kAnd, a, b, Mask::all());
  if (children.empty()) return Mask::all();
  if (children.size() == 1) return children.front();
  return Mask(make_node(Kind::kAnd, 0, 0, std::move(children)));
}

Mask operator|(const Mask& a, const Mask& b) {
  if (a == Mask::all() || b == Mask::all()) return Mask::all();
  auto children = gather(Kind::kOr, a, b, Mask::none());
  if (children.empty()) return Mask::none();
  if (children.size() == 1) return children.front();
  return Mask(make_node(Kind::kOr, 0, 0, std::move(children)));
}

Mask operator~(const Mask& a) {
  if (a.node().kind == Kind::kNot) return a.node().children.front();
  if (a == Mask::all()) return Mask::none();
  if (a == Mask::none()) return Mask::all();
  return Mask(make_node(Kind::kNot, 0, 0, {a}));
}

std::string Mask::str() const {
  const auto joined = [&](std::string_view separator) {
    std::string text;
    for (const Mask& child : node_->children) {
      const bool wrap = child.node().kind == Kind::kOr || child.node().kind == Kind::kAnd;
      text += concat(text.empty() ? "" : separator, wrap ? "(" : "", child.str(), wrap ? ")" : "");
    }
    return text;
  };
  switch (node_->kind) {
    case Kind::kAll:
      return "all";
    case Kind::kNone:
      return "none";
    case Kind::kCausal:
      return "causal";
    case Kind::kWindow:
      return node_->b == MaskNode::kUnbounded ? concat("window(", node_->a, ")")
                                              : concat("window(", node_->a, ", ", node_->b, ")");
    case Kind::kSink:
      return concat("sink(", node_->a, ")");
    case Kind::kNot:
      return concat("~", joined(""));
    case Kind::kAnd:
      return joined(" & ");
    case Kind::kOr:
      return joined(" | ");
  }
  bug("Mask::str: unknown kind");
}

std::size_t Mask::hash() const {
  auto value = static_cast<std::uint64_t>(node_->kind) * 0x9E3779B97F4A7C15U;
  const auto mix = [&](std::uint64_t part) {
    value = (value ^ part) * 0xFF51AFD7ED558CCDU;
    value ^= value >> 32;
  };
  mix(static_cast<std::uint64_t>(node_->a));
  mix(static_cast<std::uint64_t>(node_->b));
  for (const Mask& child : node_->children) mix(child.hash());
  return value;
}

bool operator==(const Mask& a, const Mask& b) {
  if (a.node_ == b.node_) return true;
  return a.node_->kind == b.node_->kind && a.node_->a == b.node_->a && a.node_->b == b.node_->b &&
         a.node_->children == b.node_->children;
}

std::ostream& operator<<(std::ostream& out, const Mask& mask) { return out << mask.str(); }

}  // namespace perpend
