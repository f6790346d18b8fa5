#include "perpend/mask/mask_program.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/mask/hash_mix.h"
#include "perpend/mask/mask_node.h"

namespace perpend {
namespace {

using Kind = MaskNode::Kind;
using Op = MaskProgram::Op;
using Node = MaskProgram::Node;

// Runs of consecutive integers among ascending values.
std::vector<LabelRange> consecutive(const std::vector<std::int64_t>& values) {
  std::vector<LabelRange> ranges;
  for (const std::int64_t value : values) {
    if (!ranges.empty() && ranges.back().max + 1 == value) {
      ranges.back().max = value;
    } else {
      ranges.push_back({value, value});
    }
  }
  return ranges;
}

class ProgramBuilder {
 public:
  explicit ProgramBuilder(HeadIndex head) : head_(head) {}

  void add(const Mask& mask) {
    const MaskNode& node = mask.node();
    switch (node.kind) {
      case Kind::kAll:
        return push({.op = Op::kAll});
      case Kind::kNone:
        return push({.op = Op::kNone});
      case Kind::kCausal:
        return push({.op = Op::kCausal});
      case Kind::kWindow:
        return push({.op = Op::kWindow, .a = node.a, .b = node.b});
      case Kind::kSink:
        return push({.op = Op::kInterval, .a = -kUnbounded, .b = node.a});
      case Kind::kNear:
        return push({.op = Op::kNear, .a = node.a, .b = (node.b - 1) * node.a});
      case Kind::kEvery:
        return add_every(node);
      case Kind::kSame:
        return add_comparison(node, Op::kSameBand, Op::kSame);
      case Kind::kUpto:
        return add_comparison(node, Op::kUptoBand, Op::kUpto);
      case Kind::kBefore:
        return add_comparison(node, Op::kBeforeBand, Op::kBefore);
      case Kind::kQueryIn:
      case Kind::kKeyIn:
        return add_member(node);
      case Kind::kTable:
        return add_table(node);
      case Kind::kTiles:
        return add_tiles(node);
      case Kind::kHeads:
        return add(node.child_of_head(head_.q_head));
      case Kind::kNot:
        return add_not(node);
      case Kind::kAnd:
      case Kind::kOr:
        return add_joined(node);
    }
    bug("ProgramBuilder::add: unknown kind");
  }

  MaskProgram finish() {
    HashMix hash(program_.nodes.size());
    for (const Node& node : program_.nodes) {
      hash.add(static_cast<std::uint64_t>(node.op)).add(std::uint64_t{node.on_queries});
      hash.add(std::int64_t{node.size}).add(node.a).add(node.b).add(node.c);
    }
    for (const Label& label : program_.labels) hash.add(std::uint64_t{label.hash()});
    for (const Range& range : program_.intervals) hash.add(range.begin).add(range.end);
    for (const LabelRange& range : program_.value_ranges) hash.add(range.min).add(range.max);
    for (const std::uint64_t row : program_.tables) hash.add(row);
    for (const TileMap& map : program_.tile_maps) hash.add(std::uint64_t{map.hash()});
    program_.hash = hash.value();
    return std::move(program_);
  }

 private:
  void push(const Node& node) { program_.nodes.push_back(node); }

  static constexpr unsigned kQueries = 1;
  static constexpr unsigned kKeys = 2;

  std::int32_t add_label(const Label& label, unsigned axes) {
    auto& labels = program_.labels;
    const Label plain = without_names(label);
    const auto found = std::find(labels.begin(), labels.end(), plain);
    const auto index = static_cast<std::size_t>(found - labels.begin());
    if (index == labels.size()) {
      labels.push_back(plain);
      program_.label_axes.push_back(0);
    }
    auto& known = program_.label_axes[index];
    known = static_cast<std::uint8_t>(known | axes);
    return static_cast<std::int32_t>(index);
  }

  void add_every(const MaskNode& node) {
    if (node.b == 1) return push({.op = Op::kAll});
    push({.op = Op::kEvery, .a = node.a, .b = node.b, .c = node.c * head_.kv_head % node.b});
  }

  void add_comparison(const MaskNode& node, Op band, Op general) {
    const std::int32_t label = add_label(*node.label, kQueries | kKeys);
    const bool ascends = program_.labels[static_cast<std::size_t>(label)].node().ascends();
    push({.op = ascends ? band : general, .label = label});
  }

  void add_member(const MaskNode& node) {
    const bool on_queries = node.kind == Kind::kQueryIn;
    const std::int32_t index = add_label(*node.label, on_queries ? kQueries : kKeys);
    const LabelNode& label = program_.labels[static_cast<std::size_t>(index)].node();
    Node member{.on_queries = on_queries};
    const auto ranges = consecutive(node.values);
    if (!label.ascends()) {
      member.op = Op::kMember;
      member.label = index;
      member.first = static_cast<std::int32_t>(program_.value_ranges.size());
      member.count = static_cast<std::int32_t>(ranges.size());
      program_.value_ranges.insert(program_.value_ranges.end(), ranges.begin(), ranges.end());
      return push(member);
    }
    std::vector<Range> intervals;
    for (const LabelRange& values : ranges) {
      const Range positions = label.positions_of(values);
      if (positions.empty()) continue;
      if (!intervals.empty() && intervals.back().end == positions.begin) {
        intervals.back().end = positions.end;
      } else {
        intervals.push_back(positions);
      }
    }
    if (intervals.empty()) return push({.op = Op::kNone});
    if (intervals.size() == 1) {
      member.op = Op::kInterval;
      member.a = intervals.front().begin;
      member.b = intervals.front().end;
      return push(member);
    }
    member.op = Op::kIntervals;
    member.first = static_cast<std::int32_t>(program_.intervals.size());
    member.count = static_cast<std::int32_t>(intervals.size());
    program_.intervals.insert(program_.intervals.end(), intervals.begin(), intervals.end());
    push(member);
  }

  void add_table(const MaskNode& node) {
    push({.op = Op::kTable,
          .label = add_label(*node.label, kQueries | kKeys),
          .first = static_cast<std::int32_t>(program_.tables.size()),
          .count = static_cast<std::int32_t>(node.values.size())});
    for (const std::int64_t row : node.values) {
      program_.tables.push_back(static_cast<std::uint64_t>(row));
    }
  }

  void add_tiles(const MaskNode& node) {
    check(node.tiles.has_value(),
          concat("mask: the tile map '", node.name, "' is not bound; bind it to a TileMap"));
    push({.op = Op::kTiles, .first = static_cast<std::int32_t>(program_.tile_maps.size())});
    program_.tile_maps.push_back(*node.tiles);
  }

  void add_not(const MaskNode& node) {
    const std::size_t place = program_.nodes.size();
    push({.op = Op::kNot});
    add(node.children.front());
    const Op child = program_.nodes[place + 1].op;
    if (child == Op::kAll || child == Op::kNone) {
      replace(place, child == Op::kAll ? Op::kNone : Op::kAll);
    } else if (child == Op::kNot) {
      program_.nodes.erase(at(place), at(place + 2));
    } else {
      close(place);
    }
  }

  void add_joined(const MaskNode& node) {
    const bool is_and = node.kind == Kind::kAnd;
    const Op absorbing = is_and ? Op::kNone : Op::kAll;
    const Op neutral = is_and ? Op::kAll : Op::kNone;
    const std::size_t place = program_.nodes.size();
    std::size_t num_children = 0;
    push({.op = is_and ? Op::kAnd : Op::kOr});
    for (const Mask& child : node.children) {
      const std::size_t begin = program_.nodes.size();
      add(child);
      const Op op = program_.nodes[begin].op;
      if (op == absorbing) return replace(place, absorbing);
      if (op == neutral) {
        program_.nodes.pop_back();
      } else {
        ++num_children;
      }
    }
    if (num_children == 0) return replace(place, neutral);
    if (num_children == 1) {
      program_.nodes.erase(at(place));
    } else {
      close(place);
    }
  }

  std::vector<Node>::iterator at(std::size_t place) {
    return program_.nodes.begin() + static_cast<std::ptrdiff_t>(place);
  }
  void close(std::size_t place) {
    program_.nodes[place].size = static_cast<std::int32_t>(program_.nodes.size() - place);
  }
  void replace(std::size_t place, Op op) {
    program_.nodes.resize(place);
    push({.op = op});
  }

  HeadIndex head_;
  MaskProgram program_;
};

}  // namespace

MaskProgram make_program(const Mask& mask, HeadIndex head) {
  ProgramBuilder builder(head);
  builder.add(mask);
  return builder.finish();
}

}  // namespace perpend
