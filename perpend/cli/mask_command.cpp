#include <algorithm>
#include <iostream>

#include <fmt/core.h>

#include "perpend/cli/commands.h"
#include "perpend/cli/mask_commands.h"
#include "perpend/cli/options.h"
#include "perpend/cli/report.h"
#include "perpend/io/png.h"
#include "perpend/io/svg.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/covers.h"
#include "perpend/mask/mask_node.h"
#include "perpend/mask/retention.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/picture.h"

namespace perpend {
namespace {

// What one key of the default model takes in a layer: K and V, 3 heads of 64, f16.
constexpr std::int64_t kDefaultKeyBytes = 2 * 3 * 64 * 2;
constexpr std::int64_t kPageSize = 64;
constexpr std::int64_t kMaxLen = std::int64_t{1} << 30;
constexpr std::int64_t kMaxTiles = std::int64_t{1} << 30;
constexpr int kTextColumns = 64;
constexpr int kPicturePixels = 1024;

struct MaskShow {
  std::string text;
  std::string labels;
  std::int64_t q = 0;
  std::int64_t k = 0;
  std::int64_t q_offset = 0;
  std::int64_t key_bytes = kDefaultKeyBytes;
  std::string png;
  std::string svg;

  void run() const;
  // What the flags say; throws InvalidArgument naming the one that is out of range.
  SequenceShape sequence() const;
  void print(const Mask& mask, const Schedule& schedule) const;
};

SvgScene scene_of(const Schedule& schedule) {
  const SequenceShape& sequence = schedule.shape.sequences.front();
  SvgScene scene(static_cast<double>(sequence.kv_len), static_cast<double>(sequence.q_len));
  for (const PictureTile& tile : picture_tiles(schedule)) {
    scene.rect(static_cast<double>(tile.x), static_cast<double>(tile.y),
               static_cast<double>(tile.width), static_cast<double>(tile.height),
               tile.density == 1.0 ? Image::Color{31, 78, 121} : Image::Color{130, 175, 220});
  }
  return scene;
}

SequenceShape MaskShow::sequence() const {
  const auto check_length = [](std::int64_t value, std::int64_t least, std::string_view flag) {
    check(value >= least && value < kMaxLen,
          concat("mask show: ", flag, " must be in [", least, ", ", kMaxLen, ") (", value, ")"));
  };
  check_length(q, 1, "--q");
  check_length(k, 0, "--k");
  check_length(q_offset, 0, "--q-offset");
  check_length(key_bytes, 1, "--key-bytes");
  const SequenceShape shape{q, k > 0 ? k : q + q_offset, q_offset};
  check(shape.q_len / kPageSize * (shape.kv_len / kPageSize) < kMaxTiles,
        concat("mask show: ", shape.q_len, " x ", shape.kv_len, " is too large to draw"));
  return shape;
}

// Whether it has what tells heads apart: choices by head, or every() with a step for each.
bool differs_by_head(const Mask& mask) {
  const MaskNode& node = mask.node();
  if (node.kind == MaskNode::Kind::kHeads) return true;
  if (node.kind == MaskNode::Kind::kEvery && node.c != 0) return true;
  return std::ranges::any_of(node.children, differs_by_head);
}

void MaskShow::print(const Mask& mask, const Schedule& schedule) const {
  const SequenceShape& shape = schedule.shape.sequences.front();
  const ScheduleCost cost = cost_of(schedule);
  std::cout << draw_text(mask, shape, kTextColumns);
  const std::int64_t total = shape.q_offset + shape.q_len;
  const auto bytes_kept = [&](const Mask& kept) {
    return Retention(kept, total + kPageSize).retained_bytes(total, kPageSize, key_bytes);
  };
  fmt::print("{:<14} {}\n", "mask", mask.str());
  fmt::print("{:<14} {} queries x {} keys\n", "shape", shape.q_len, shape.kv_len);
  fmt::print("{:<14} {} of {} pairs ({:.2f} %)\n", "live", cost.live_pairs, cost.total_pairs,
             100 * cost.density());
  if (differs_by_head(mask)) {
    fmt::print("{:<14} of head 0 alone; `perpend mask plan --heads N` counts those of N\n",
               "shown");
  }
  fmt::print("{:<14} {} full, {} partial, {} distinct bitmaps (64 x 64)\n", "tiles",
             cost.full_tiles, cost.partial_tiles, schedule.bitmaps.count());
  fmt::print("{:<14} {} a layer after {} tokens ({} if nothing were freed; {} bytes a key)\n",
             "KV at decode", bytes_text(bytes_kept(mask)), total,
             bytes_text(bytes_kept(Mask::causal())), key_bytes);
}

void MaskShow::run() const {
  const Mask mask = parse_mask(text).bind(parse_bindings(labels));
  const SequenceShape shape = sequence();
  check_covers(mask, shape.q_len, shape.kv_len, shape.q_offset);
  const Schedule schedule = compile(mask, {{shape}, 1, 1}, plain_tiling(64, 64));
  if (!png.empty()) write_png(draw_schedule(schedule, mask, kPicturePixels), png);
  if (!svg.empty()) scene_of(schedule).write(svg);
  print(mask, schedule);
}

}  // namespace

void add_mask_command(CLI::App& app) {
  auto command = std::make_shared<MaskShow>();
  CLI::App& mask = *app.add_subcommand("mask", "Look at attention masks");
  mask.require_subcommand(1);
  CLI::App& show = *mask.add_subcommand("show", "Draw a mask with its tiles and its cost");
  show.add_option("mask", command->text, "The mask, e.g. \"causal & window(1024)\"")->required();
  add_option(show, "--labels", command->labels,
             "What names of the mask stand for, e.g. \"doc = segments(160*101, 224)\"");
  add_option(show, "--q", command->q, "Number of queries")->required();
  add_option(show, "--k", command->k, "Number of keys; 0: as many as queries and offset");
  add_option(show, "--q-offset", command->q_offset, "Position of the first query");
  add_option(show, "--key-bytes", command->key_bytes,
             "Bytes of K and V of one key in a layer (default: SmolLM2-135M in f16)");
  add_option(show, "--png", command->png, "Also write a PNG picture");
  add_option(show, "--svg", command->svg, "Also write an SVG picture of the tiles");
  show.footer(
      "Examples:\n"
      "  perpend mask show causal --q 256\n"
      "  perpend mask show \"causal & (sink(64) | window(448))\" --q 4096 --png mask.png");
  add_mask_list_command(mask);
  add_mask_explain_command(mask);
  add_mask_plan_command(mask);
  show.callback([command] { command->run(); });
}

}  // namespace perpend
