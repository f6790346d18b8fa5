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

Answer invert(Answer answer) {
  if (answer == Answer::kSome) return answer;
  return answer == Answer::kAll ? Answer::kNone : Answer::kAll;
}

Answer band_answer(const MaskNode& node, Range queries, Range keys) {
  const Range first = node.band(queries.begin);
  const Range last = node.band(queries.end - 1);
  if (keys.begin >= last.begin && keys.end <= first.end) return Answer::kAll;
  if (keys.end <= first.begin || keys.begin >= last.end) return Answer::kNone;
  return Answer::kSome;
}

std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
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

bool Mask::visible(std::int64_t q, std::int64_t k) const { return (word(q, k) & 1U) != 0; }

Answer Mask::answer(Range queries, Range keys) const {
  if (!node_->is_operator()) return band_answer(*node_, queries, keys);
  if (node_->kind == Kind::kNot) return invert(node_->children.front().answer(queries, keys));
  // `decisive` from one child settles the whole; `other` must come from all of them.
  const bool is_and = node_->kind == Kind::kAnd;
  const Answer decisive = is_and ? Answer::kNone : Answer::kAll;
  bool some = false;
  for (const Mask& child : node_->children) {
    const Answer answer = child.answer(queries, keys);
    if (answer == decisive) return decisive;
    some |= answer == Answer::kSome;
  }
  return some ? Answer::kSome : invert(decisive);
}

std::uint64_t Mask::word(std::int64_t q, std::int64_t key_begin) const {
  switch (node_->kind) {
    case Kind::kNot:
      return ~node_->children.front().word(q, key_begin);
    case Kind::kAnd: {
      std::uint64_t bits = ~std::uint64_t{0};
      for (const Mask& child : node_->children) bits &= child.word(q, key_begin);
      return bits;
    }
    case Kind::kOr: {
      std::uint64_t bits = 0;
      for (const Mask& child : node_->children) bits |= child.word(q, key_begin);
      return bits;
    }
    default: {
      const Range band = node_->band(q);
      return low_bits(band.end - key_begin) & ~low_bits(band.begin - key_begin);
    }
  }
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

void append_tile_class(const Mask& mask, Range queries, Range keys,
                       std::vector<std::int64_t>& key) {
  const MaskNode& node = mask.node();
  const Answer answer = mask.answer(queries, keys);
  key.push_back(static_cast<std::int64_t>(answer));
  if (answer != Answer::kSome) return;
  for (const Mask& child : node.children) append_tile_class(child, queries, keys, key);
  if (node.is_operator()) return;
  key.push_back(node.kind == Kind::kSink ? keys.begin : queries.begin - keys.begin);
}

}  // namespace perpend
