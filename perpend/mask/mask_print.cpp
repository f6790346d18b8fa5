#include <string>
#include <string_view>

#include "perpend/core/error.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;

std::string joined(const MaskNode& node, std::string_view separator) {
  std::string text;
  for (const Mask& child : node.children) {
    const bool wrap = child.node().is_joined();
    text += concat(text.empty() ? "" : separator, wrap ? "(" : "", child, wrap ? ")" : "");
  }
  return text;
}

std::string values_text(const MaskNode& node) {
  std::string text;
  for (const std::int64_t value : node.values) text += concat(", ", value);
  return text;
}

std::string table_text(const MaskNode& node) {
  std::string text;
  for (const std::int64_t row : node.values) {
    text += ", ";
    for (std::size_t c = 0; c < node.values.size(); ++c) {
      text += (static_cast<std::uint64_t>(row) >> c & 1U) != 0 ? '1' : '0';
    }
  }
  return text;
}

std::string heads_text(const MaskNode& node) {
  std::string text;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    if (i > 0) text += "; ";
    std::string selectors = i < node.spans.size() ? "" : "rest";
    for (std::size_t s = 0; i < node.spans.size() && s < node.spans[i].size(); ++s) {
      const HeadSpan span = node.spans[i][s];
      selectors += concat(s == 0 ? "" : ", ", span.first);
      if (span.last != span.first) selectors += concat("-", span.last);
    }
    text += concat(selectors, ": ", node.children[i]);
  }
  return text;
}

}  // namespace

std::string Mask::str() const {
  const MaskNode& node = *node_;
  const auto labelled = [&](std::string_view word, const std::string& more) {
    return concat(word, "(", *node.label, more, ")");
  };
  switch (node.kind) {
    case Kind::kAll:
      return "all";
    case Kind::kNone:
      return "none";
    case Kind::kCausal:
      return "causal";
    case Kind::kWindow:
      return node.b == kUnbounded ? concat("window(", node.a, ")")
                                  : concat("window(", node.a, ", ", node.b, ")");
    case Kind::kSink:
      return concat("sink(", node.a, ")");
    case Kind::kSame:
      return labelled("same", "");
    case Kind::kUpto:
      return labelled("upto", "");
    case Kind::kBefore:
      return labelled("before", "");
    case Kind::kQueryIn:
      return labelled("q_in", values_text(node));
    case Kind::kKeyIn:
      return labelled("k_in", values_text(node));
    case Kind::kEvery:
      return node.c == 0 ? concat("every(", node.a, ", ", node.b, ")")
                         : concat("every(", node.a, ", ", node.b, ", ", node.c, ")");
    case Kind::kNear:
      return concat("near(", node.a, ", ", node.b, ")");
    case Kind::kTable:
      return labelled("table", table_text(node));
    case Kind::kTiles:
      return concat("tiles(", node.name, ")");
    case Kind::kHeads:
      return concat("heads(", heads_text(node), ")");
    case Kind::kNot:
      return concat("~", joined(node, ""));
    case Kind::kAnd:
      return joined(node, " & ");
    case Kind::kOr:
      return joined(node, " | ");
  }
  bug("Mask::str: unknown kind");
}

}  // namespace perpend
