#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/mask_commands.h"
#include "perpend/cli/options.h"
#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/compositions.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;

std::string signature(const Composition& composition) {
  return concat(composition.name, "(", composition.parameters, ")");
}

void list_compositions() {
  for (const Composition& composition : compositions()) {
    fmt::print("{}\n  {}\n  {}\n  {}\n\n", signature(composition), composition.summary,
               composition.paper, composition.text);
  }
}

void list_compositions_as_json() {
  for (const Composition& composition : compositions()) {
    fmt::print("{}\n", nlohmann::json{{"name", composition.name},
                                      {"parameters", composition.parameters},
                                      {"text", composition.text},
                                      {"paper", composition.paper},
                                      {"summary", composition.summary}}
                           .dump());
  }
}

// What a primitive or an operator says, in words.
std::string_view meaning(Kind kind) {
  switch (kind) {
    case Kind::kAll:
      return "every key";
    case Kind::kNone:
      return "no key";
    case Kind::kCausal:
      return "keys at or before the query";
    case Kind::kWindow:
      return "keys close to the query";
    case Kind::kSink:
      return "the first keys";
    case Kind::kSame:
      return "keys with the query's label";
    case Kind::kUpto:
      return "keys whose label is at most the query's";
    case Kind::kBefore:
      return "keys whose label is less than the query's";
    case Kind::kQueryIn:
      return "every key, for queries with one of these labels";
    case Kind::kKeyIn:
      return "keys with one of these labels";
    case Kind::kEvery:
      return "every n-th block of keys, moved for each key/value head";
    case Kind::kNear:
      return "keys at most so many blocks behind the query, and all after it";
    case Kind::kTable:
      return "keys whose label the table pairs with the query's";
    case Kind::kTiles:
      return "what a map of tiles holds";
    case Kind::kHeads:
      return "by query head:";
    case Kind::kNot:
      return "not:";
    case Kind::kAnd:
      return "all of:";
    case Kind::kOr:
      return "any of:";
  }
  bug("meaning: unknown kind");
}

void explain(const Mask& mask, int depth) {
  const MaskNode& node = mask.node();
  const std::string indent(static_cast<std::size_t>(2 * depth), ' ');
  if (node.children.empty()) {
    fmt::print("{}{:<{}} {}\n", indent, mask.str(), std::max(0, 40 - 2 * depth),
               meaning(node.kind));
    return;
  }
  fmt::print("{}{}\n", indent, meaning(node.kind));
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    if (i < node.spans.size()) {
      for (const HeadSpan span : node.spans[i]) {
        fmt::print("{}  heads {} to {}:\n", indent, span.first, span.last);
      }
    } else if (node.kind == Kind::kHeads) {
      fmt::print("{}  other heads:\n", indent);
    }
    explain(node.children[i], depth + (node.kind == Kind::kHeads ? 2 : 1));
  }
}

void explain_text(const std::string& text) {
  const Mask mask = parse_mask(text);
  fmt::print("{}\n\nA query sees\n", mask.str());
  explain(mask, 1);
  const auto names = mask.unbound_names();
  if (names.empty()) return;
  std::string labels;
  std::string tiles;
  for (const std::string& name : names) {
    // What a label does not bind stands for a tile map.
    const Mask bound = mask.bind(Bindings().set(name, Label::block(1)));
    std::string& list = std::ranges::count(bound.unbound_names(), name) > 0 ? tiles : labels;
    list += " " + name;
  }
  if (!labels.empty()) fmt::print("\nTo be bound (--labels \"NAME = segments(...)\"):{}\n", labels);
  if (!tiles.empty()) fmt::print("\nTile maps, which only programs can bind:{}\n", tiles);
}

}  // namespace

void add_mask_list_command(CLI::App& mask) {
  auto json = std::make_shared<bool>(false);
  CLI::App& list = *mask.add_subcommand("list", "List the named masks of papers");
  add_flag(list, "--json", *json, "One JSON object a line");
  list.footer(
      "Examples:\n"
      "  perpend mask list\n"
      "  perpend mask show \"longgen_sink(64, 1, 31)\" --q 8192");
  list.callback([json] { *json ? list_compositions_as_json() : list_compositions(); });
}

void add_mask_explain_command(CLI::App& mask) {
  auto text = std::make_shared<std::string>();
  CLI::App& command =
      *mask.add_subcommand("explain", "Write a mask out and say what its parts mean");
  command.add_option("mask", *text, "The mask, e.g. \"block_diffusion(4096, 32)\"")->required();
  command.footer(
      "Examples:\n"
      "  perpend mask explain \"block_diffusion(4096, 32)\"");
  command.callback([text] { explain_text(*text); });
}

}  // namespace perpend
