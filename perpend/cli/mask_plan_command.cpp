#include <algorithm>
#include <chrono>
#include <iostream>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/check_range.h"
#include "perpend/cli/mask_commands.h"
#include "perpend/cli/options.h"
#include "perpend/cli/planning_device.h"
#include "perpend/cli/report.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/schedule/tiling_search.h"

namespace perpend {
namespace {

constexpr int kTimedPlans = 5;
constexpr std::int64_t kMostTokens = (std::int64_t{1} << 30) - 1;  // of a schedule
constexpr std::int64_t kValueBytes = 2;                            // of bf16

struct MaskPlan {
  std::string text;
  std::string labels;
  std::int64_t q = 0;
  std::int64_t k = 0;
  std::int64_t q_offset = 0;
  int batch = 1;
  int heads = 1;
  int kv_heads = 0;
  int head_dim = 128;
  std::string device = "gpu";
  bool columns = false;
  bool lists = false;
  bool json = false;

  void run() const;
  AttentionShape shape() const;
  Tiling tiling() const;
  Sweep sweep() const { return columns ? Sweep::kColumns : Sweep::kRows; }
};

// A plan, what else could have been chosen, and how long planning takes.
struct Planned {
  std::vector<PlanCandidate> candidates;
  Schedule schedule;
  double plan_ms = 0;  // median
};

AttentionShape MaskPlan::shape() const {
  check_range("mask plan", "--q", q, 1, kMostTokens);
  check_range("mask plan", "--k", k, 0, kMostTokens);
  check_range("mask plan", "--q-offset", q_offset, 0, kMostTokens);
  check_range("mask plan", "--batch", batch, 1, 4096);
  check_range("mask plan", "--heads", heads, 1, 1024);
  check_range("mask plan", "--kv-heads", kv_heads, 0, heads);
  const SequenceShape sequence{q, k > 0 ? k : q + q_offset, q_offset};
  return {std::vector<SequenceShape>(static_cast<std::size_t>(batch), sequence), heads,
          kv_heads > 0 ? kv_heads : heads};
}

Tiling MaskPlan::tiling() const {
  if (plans_for_gpu("mask plan", device, true)) return gpu_tiling(head_dim, sweep());
  return cpu_kernels().attention.tiling(
      {.q_dtype = DType::kBF16, .kv_dtype = DType::kBF16, .head_dim = head_dim}, sweep());
}

Planned plan(const Mask& mask, const AttentionShape& shape, const Tiling& tiling, Sweep sweep) {
  Planned planned;
  planned.candidates = plan_candidates(std::span(&mask, 1), shape, tiling, sweep);
  std::vector<double> milliseconds;
  for (int i = 0; i < kTimedPlans; ++i) {
    const auto start = std::chrono::steady_clock::now();
    planned.schedule = compile(mask, shape, tiling, sweep);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    milliseconds.push_back(took.count());
  }
  std::ranges::nth_element(milliseconds, milliseconds.begin() + kTimedPlans / 2);
  planned.plan_ms = milliseconds[kTimedPlans / 2];
  return planned;
}

std::string text_of(const TilePlan& plan) {
  std::ostringstream out;
  out << plan;
  return out.str();
}

void print(const Mask& mask, const Planned& planned, int head_dim) {
  const Schedule& schedule = planned.schedule;
  const ScheduleCost cost = cost_of(schedule);
  const SequenceShape& sequence = schedule.shape.sequences.front();
  fmt::print("{:<14} {}\n", "mask", mask.str());
  fmt::print("{:<14} {} x ({} queries x {} keys), {} heads on {}\n", "shape",
             schedule.shape.sequences.size(), sequence.q_len, sequence.kv_len,
             schedule.shape.num_q_heads, schedule.shape.num_kv_heads);
  for (std::size_t i = 0; i < planned.candidates.size(); ++i) {
    fmt::print("{:<14} {:>12.1f} tiles  {}\n", i == 0 ? "chosen" : "", planned.candidates[i].cost,
               text_of(planned.candidates[i].plan));
  }
  fmt::print("{:<14} {} of {} pairs ({:.3f} %)\n", "live", cost.live_pairs, cost.total_pairs,
             100 * cost.density());
  fmt::print("{:<14} {} pairs ({:.3f} of them live)\n", "computed", cost.computed_pairs,
             cost.efficiency());
  fmt::print(
      "{:<14} {} items, {} full steps, {} partial ({} distinct bitmaps), {} gathered, {} "
      "half skipped\n",
      "tiles", schedule.items.size(), cost.full_tiles, cost.partial_tiles, schedule.bitmaps.count(),
      cost.gathered, cost.half_skipped);
  fmt::print("{:<14} {:.3g} TFLOP forward, {:.3g} backward; {} to read and write in bf16\n", "work",
             cost.flops(head_dim) * 1e-12, cost.backward_flops(head_dim) * 1e-12,
             bytes_text(static_cast<std::int64_t>(cost.bytes(head_dim, kValueBytes))));
  fmt::print("{:<14} {}, planned in {:.3f} ms\n", "lists", bytes_text(cost.list_bytes),
             planned.plan_ms);
}

nlohmann::json to_json(const TilePlan& plan) {
  return {{"outer_tile", plan.outer_tile}, {"outer_part", plan.outer_part},
          {"inner_tile", plan.inner_tile}, {"sub_tile", plan.sub_tile},
          {"packed", plan.packed},         {"aligned", plan.aligned}};
}

nlohmann::json to_json(const Mask& mask, const Planned& planned, int head_dim) {
  const ScheduleCost cost = cost_of(planned.schedule);
  nlohmann::json candidates = nlohmann::json::array();
  for (const PlanCandidate& candidate : planned.candidates) {
    nlohmann::json line = to_json(candidate.plan);
    line["cost"] = candidate.cost;
    candidates.push_back(line);
  }
  return {{"mask", mask.str()},
          {"plan", to_json(planned.schedule.plan)},
          {"candidates", candidates},
          {"live_pairs", cost.live_pairs},
          {"computed_pairs", cost.computed_pairs},
          {"total_pairs", cost.total_pairs},
          {"items", planned.schedule.items.size()},
          {"full_tiles", cost.full_tiles},
          {"partial_tiles", cost.partial_tiles},
          {"half_skipped", cost.half_skipped},
          {"gathered", cost.gathered},
          {"bitmaps", planned.schedule.bitmaps.count()},
          {"list_bytes", cost.list_bytes},
          {"flops", cost.flops(head_dim)},
          {"bytes_bf16", cost.bytes(head_dim, kValueBytes)},
          {"plan_ms", planned.plan_ms}};
}

void MaskPlan::run() const {
  check(head_dim >= 1 && head_dim <= 256,
        concat("mask plan: --head-dim must be in [1, 256] (", head_dim, ")"));
  const Mask mask = parse_mask(text).bind(parse_bindings(labels));
  const Planned planned = plan(mask, shape(), tiling(), sweep());
  if (json) {
    std::cout << to_json(mask, planned, head_dim).dump(2) << "\n";
    return;
  }
  print(mask, planned, head_dim);
  if (lists) std::cout << planned.schedule;
}

}  // namespace

void add_mask_plan_command(CLI::App& mask) {
  auto command = std::make_shared<MaskPlan>();
  CLI::App& plan = *mask.add_subcommand("plan", "Show how a mask would be computed, and how well");
  plan.add_option("mask", command->text, "The mask, e.g. \"causal & window(1024)\"")->required();
  add_option(plan, "--q", command->q, "Number of queries")->required();
  add_option(plan, "--k", command->k, "Number of keys; 0: as many as queries and offset");
  add_option(plan, "--q-offset", command->q_offset, "Position of the first query");
  add_option(plan, "--labels", command->labels,
             "What names of the mask stand for, e.g. \"doc = segments(160*101, 224)\"");
  add_option(plan, "--batch", command->batch, "Number of sequences");
  add_option(plan, "--heads", command->heads, "Number of query heads");
  add_option(plan, "--kv-heads", command->kv_heads, "Number of key/value heads; 0: as many");
  add_option(plan, "--head-dim", command->head_dim, "Size of a head");
  add_option(plan, "--device", command->device, "Whose tiles: gpu or cpu");
  add_flag(plan, "--columns", command->columns, "Plan the columns (dK, dV), not the rows");
  add_flag(plan, "--lists", command->lists, "Also print every list");
  add_flag(plan, "--json", command->json, "Print JSON");
  plan.footer(
      "Examples:\n"
      "  perpend mask plan \"causal & (sink(128) | window(1024))\" --q 32768 --heads 32\n"
      "  perpend mask plan \"causal & same(doc)\" --q 4096 --labels \"doc = segments(1000, "
      "3096)\"");
  plan.callback([command] { command->run(); });
}

}  // namespace perpend
