#include <fstream>
#include <iostream>

#include <nlohmann/json.hpp>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/options.h"
#include "perpend/cli/planning_device.h"
#include "perpend/core/cpu_features.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

// What both kinds of benchmark are asked: the workloads.
struct WorkloadOptions {
  std::string set = "cpu";
  std::string only;
  std::string mask;
  std::string bindings;
  std::int64_t tokens = 0;
  std::int64_t batch = 1;
  int heads = 8;
  int kv_heads = 0;
  int head_dim = 64;
  int reps = 11;

  void add_to(CLI::App& app);
  std::vector<Workload> workloads() const;
  Workload own_workload() const;
};

void WorkloadOptions::add_to(CLI::App& app) {
  add_option(app, "--set", set, "Standard workloads: cpu or gpu");
  add_option(app, "--workload", only, "Only the workloads whose name holds this");
  add_option(app, "--mask", mask, "A mask of your own instead, with --tokens");
  add_option(app, "--labels", bindings, "What names in the mask mean");
  add_option(app, "--tokens", tokens, "Queries and keys");
  add_option(app, "--batch", batch, "Sequences");
  add_option(app, "--heads", heads, "Query heads");
  add_option(app, "--kv-heads", kv_heads, "Key/value heads; 0: as many as query heads");
  add_option(app, "--head-dim", head_dim, "Values of a head, 1 to 256");
  add_option(app, "--reps", reps, "Calls of which the median is taken");
}

Workload WorkloadOptions::own_workload() const {
  check(tokens >= 1 && batch >= 1 && heads >= 1 && kv_heads >= 0 && head_dim >= 1,
        "bench: --mask needs --tokens, and all sizes must be at least 1");
  const int groups = kv_heads > 0 ? kv_heads : heads;
  check(heads % groups == 0,
        concat("bench: --heads must be a multiple of --kv-heads (", heads, " vs ", groups, ")"));
  return {"own", mask, parse_mask(mask).bind(parse_bindings(bindings)),
          uniform_shape(batch, tokens, heads, groups), head_dim};
}

std::vector<Workload> WorkloadOptions::workloads() const {
  check(reps >= 1, concat("bench: --reps must be at least 1 (", reps, ")"));
  if (!mask.empty()) return {own_workload()};
  check(set == "cpu" || set == "gpu", concat("bench: --set must be cpu or gpu (", set, ")"));
  std::vector<Workload> chosen = read_workloads(set == "cpu" ? "cpu" : "gpu_bf16");
  std::erase_if(chosen, [&](const Workload& w) { return w.name.find(only) == std::string::npos; });
  check(!chosen.empty(),
        concat("bench: no workload of set ", set, " has \"", only, "\" in its name"));
  return chosen;
}

nlohmann::json object_of(const Workload& workload) {
  return {{"workload", workload.name},
          {"mask", workload.mask_text},
          {"peer", "perpend"},
          {"B", workload.shape.sequences.size()},
          {"Hq", workload.shape.num_q_heads},
          {"Hkv", workload.shape.num_kv_heads},
          {"S", workload.tokens()},
          {"D", workload.head_dim}};
}

// The most memory that this process has held so far.
double peak_gib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / (1 << 20);
  }
  return 0;
}

struct BenchAttention {
  WorkloadOptions options;
  std::string dtype = "bf16";
  int threads = 0;
  bool without_dense = false;

  void run() const;
  DType type() const;
  nlohmann::json measure(const Workload& workload, ThreadPool& pool) const;
};

DType BenchAttention::type() const {
  for (const DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    if (dtype == name_of(type)) return type;
  }
  throw InvalidArgument(concat("bench: --dtype must be f64, f32, f16 or bf16 (", dtype, ")"));
}

nlohmann::json BenchAttention::measure(const Workload& workload, ThreadPool& pool) const {
  const AttentionTimes times = time_attention(workload, type(), options.reps, pool);
  const double rate = times.forward_tflops(workload.head_dim);
  nlohmann::json object = object_of(workload);
  object["device"] = concat("cpu ", name_of(best_cpu_isa()));
  object["threads"] = pool.num_threads();
  object["dtype"] = dtype;
  object["density"] = times.density;
  object["fwd_ms"] = times.forward_ms;
  object["fwd_tflops_live"] = rate;
  object["mask_s"] = times.plan_s;
  object["first_call_s"] = times.first_call_s;
  object["peak_gib"] = peak_gib();
  object["bwd_ms"] = nullptr;
  object["bwd_tflops_live"] = nullptr;
  if (times.backward_ms) {
    object["bwd_ms"] = *times.backward_ms;
    object["bwd_tflops_live"] = *times.backward_tflops(workload.head_dim);
  }
  for (const Deviation& d : times.check) {
    object["checked"][std::string(name_of(d.output))] = {{"error", d.error},
                                                         {"tolerance", d.tolerance}};
  }
  if (without_dense) return object;
  // A mask that runs at this fraction of the dense rate pays below that density and no sooner.
  const AttentionTimes dense = time_attention(dense_workload(workload), type(), options.reps, pool);
  const double fraction = rate / dense.forward_tflops(workload.head_dim);
  object["fraction_of_dense"] = fraction;
  object["break_even_density"] = fraction;
  object["dense_would_be_faster"] = times.density > fraction && workload.mask_text != "all";
  return object;
}

void BenchAttention::run() const {
  ThreadPool pool(threads);
  for (const Workload& workload : options.workloads()) {
    std::cout << measure(workload, pool).dump() << std::endl;
  }
}

struct BenchSchedule {
  WorkloadOptions options;
  std::string device;

  void run() const;
  Tiling tiling(const Workload& workload, Sweep sweep) const;
};

Tiling BenchSchedule::tiling(const Workload& workload, Sweep sweep) const {
  if (plans_for_gpu("bench", device, options.set == "gpu")) {
    return gpu_tiling(workload.head_dim, sweep);
  }
  return cpu_kernels().attention.tiling(attention_case(workload, DType::kBF16).spec(), sweep);
}

void BenchSchedule::run() const {
  std::cout << nlohmann::json({{"copy_gb_s", copy_bytes_per_s() / 1e9}}).dump() << std::endl;
  for (const Workload& workload : options.workloads()) {
    const PlanTimes times = time_plans(workload, tiling(workload, Sweep::kRows),
                                       tiling(workload, Sweep::kColumns), options.reps);
    const ScheduleCost cost = cost_of(times.rows);
    nlohmann::json object = object_of(workload);
    object["plan_ms"] = times.rows_ms;
    object["plan_columns_ms"] = times.columns_ms;
    object["density"] = cost.density();
    object["live_of_computed"] = cost.efficiency();
    object["list_bytes"] = cost.list_bytes;
    object["items"] = times.rows.items.size();
    object["steps"] = times.rows.entries.size();
    object["bitmaps"] = times.rows.bitmaps.count();
    std::cout << object.dump() << std::endl;
  }
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App& bench = *app.add_subcommand("bench", "Measure attention, its planning, and models");
  bench.require_subcommand(1);
  auto attention = std::make_shared<BenchAttention>();
  CLI::App& calls =
      *bench.add_subcommand("attention", "Forward and backward, one JSON line a workload");
  attention->options.add_to(calls);
  add_option(calls, "--dtype", attention->dtype, "f64, f32, f16 or bf16");
  add_option(calls, "--threads", attention->threads, "Host threads; 0: one for each core");
  add_flag(calls, "--without-dense", attention->without_dense,
           "Do not measure dense attention of the same heads beside it");
  calls.footer(
      "Rates count 4 (forward) and 10 (backward) operations a live pair and value of a head.\n"
      "break_even_density: below it this mask is faster than dense attention of its shape.\n"
      "Examples:\n"
      "  perpend bench attention --workload sink_window\n"
      "  perpend bench attention --mask \"causal & window(512)\" --tokens 8192 --dtype f32");
  calls.callback([attention] { attention->run(); });
  auto schedule = std::make_shared<BenchSchedule>();
  CLI::App& plans = *bench.add_subcommand("schedule", "Planning alone, one JSON line a workload");
  schedule->options.add_to(plans);
  add_option(plans, "--device", schedule->device,
             "Tiles of this device's kernels: cpu or gpu; default: that of the set");
  plans.footer("Examples:\n  perpend bench schedule --set gpu");
  plans.callback([schedule] { schedule->run(); });
  add_bench_diffusion_command(bench);
  add_bench_model_command(bench);
  add_bench_rank_command(bench);
  add_bench_train_layer_command(bench);
}

}  // namespace perpend
