#include <algorithm>
#include <cmath>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/check_range.h"
#include "perpend/cli/commands.h"
#include "perpend/cli/options.h"
#include "perpend/kernels/reference/verification.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxLen = std::int64_t{1} << 30;
constexpr int kFailed = 1;

struct VerifyCommand {
  std::string text;
  std::string bindings;
  std::int64_t q = 0;
  std::int64_t k = 0;
  std::int64_t q_offset = 0;
  int heads = 8;
  int kv_heads = 0;
  std::int64_t head_dim = 64;
  float soft_cap = 0;
  bool alibi = false;
  std::uint64_t seed = 1;
  int threads = 0;
  bool json = false;

  void run() const;
  // What the flags say; throws InvalidArgument naming the one that is out of range.
  AttentionCase attention_case() const;
};

// A line of the table: one output in one type, on the backend where it is furthest off.
struct Line {
  DType dtype = DType::kF32;
  std::string backend;
  Deviation deviation;
};

// What holds is told once for all backends, what does not for each.
std::vector<Line> lines_of(const Verification& verification) {
  std::vector<Line> lines;
  for (const BackendVerdict& verdict : verification.verdicts) {
    for (const Deviation& d : verdict.deviations) {
      const auto known = std::find_if(lines.begin(), lines.end(), [&](const Line& line) {
        return line.dtype == verdict.dtype && line.deviation.output == d.output &&
               line.deviation.holds() && d.holds();
      });
      if (known == lines.end()) {
        lines.push_back({verdict.dtype, verdict.backend, d});
      } else if (d.error > known->deviation.error) {
        *known = {verdict.dtype, verdict.backend, d};
      }
    }
  }
  return lines;
}

void print_line(const Line& line) {
  const Deviation& d = line.deviation;
  const bool of_keys = d.output == AttentionOutput::kDk || d.output == AttentionOutput::kDv;
  std::string place = fmt::format("head {}, {} {}", d.head, of_keys ? "key" : "query", d.row);
  if (d.output != AttentionOutput::kLse) place += fmt::format(", dim {}", d.dim);
  fmt::print("{:<5} {:<4} {:>9.1e} {:>10.1e}  {:<28} {:<16} {}\n", name_of(line.dtype),
             name_of(d.output), d.error, d.tolerance, place, line.backend,
             d.holds() ? "ok" : concat("WRONG: ", d));
}

// "cpu scalar, cpu avx2"
std::string backends_of(const Verification& verification) {
  std::string names;
  for (const BackendVerdict& verdict : verification.verdicts) {
    if (names.find(verdict.backend) != std::string::npos) continue;
    names += (names.empty() ? "" : ", ") + verdict.backend;
  }
  return names;
}

AttentionCase VerifyCommand::attention_case() const {
  check_range("verify", "--q", q, 1, kMaxLen);
  check_range("verify", "--k", k, 0, kMaxLen);
  check_range("verify", "--q-offset", q_offset, 0, kMaxLen);
  check_range("verify", "--heads", heads, 1, 1024);
  check_range("verify", "--kv-heads", kv_heads, 0, heads);
  check_range("verify", "--head-dim", head_dim, 1, 256);
  const int groups = kv_heads > 0 ? kv_heads : heads;
  check(heads % groups == 0,
        concat("verify: --heads must be a multiple of --kv-heads (", heads, " vs ", groups, ")"));
  check(std::isfinite(soft_cap) && soft_cap >= 0,
        concat("verify: --soft-cap must be finite and not negative (", soft_cap, ")"));
  AttentionCase c;
  c.masks = {parse_mask(text).bind(parse_bindings(bindings))};
  c.shape = {{{q, k > 0 ? k : q + q_offset, q_offset}}, heads, groups};
  c.head_dim = head_dim;
  c.soft_cap = soft_cap;
  c.alibi = alibi;
  c.seed = seed;
  return c;
}

void print(const AttentionCase& c, const Verification& verification) {
  const SequenceShape& s = c.shape.sequences.front();
  const auto fault_text = [](const std::string& fault) {
    return fault.empty() ? "every live pair in exactly one tile, no dead pair in any" : fault;
  };
  fmt::print("{:<12} {}\n", "mask", c.masks.front().str());
  fmt::print("{:<12} {} queries from position {} x {} keys, {} heads on {}, head_dim {}\n", "shape",
             s.q_len, s.q_offset, s.kv_len, c.shape.num_q_heads, c.shape.num_kv_heads, c.head_dim);
  fmt::print("{:<12} {:.2f} % of all pairs\n", "live", 100 * verification.density);
  fmt::print("{:<12} {}\n", "row plan", fault_text(verification.rows_fault));
  fmt::print("{:<12} {}\n\n", "column plan", fault_text(verification.columns_fault));
  fmt::print("{:<5} {:<4} {:>9} {:>10}  {:<28} {:<16} {}\n", "type", "what", "error", "tolerance",
             "worst at", "worst on", "verdict");
  for (const Line& line : lines_of(verification)) print_line(line);
  for (const BackendVerdict& verdict : verification.verdicts) {
    if (!verdict.bits_equal) {
      fmt::print("{} {}: WRONG: two runs differ in bits\n", verdict.backend,
                 name_of(verdict.dtype));
    }
  }
  fmt::print("\nrun on {}{}\n", backends_of(verification),
             verification.verdicts.front().has_backward ? "" : "; no backward pass in this build");
  fmt::print("{}\n", verification.holds() ? "all hold" : "NOT ALL HOLD");
}

void print_json(const AttentionCase& c, const Verification& verification) {
  nlohmann::json results = nlohmann::json::array();
  for (const BackendVerdict& verdict : verification.verdicts) {
    for (const Deviation& d : verdict.deviations) {
      results.push_back({{"backend", verdict.backend},
                         {"dtype", name_of(verdict.dtype)},
                         {"output", name_of(d.output)},
                         {"error", d.error},
                         {"tolerance", d.tolerance},
                         {"head", d.head},
                         {"row", d.row},
                         {"dim", d.dim},
                         {"found", d.found},
                         {"expected", d.expected},
                         {"holds", d.holds()},
                         {"bits_equal", verdict.bits_equal}});
    }
  }
  const SequenceShape& s = c.shape.sequences.front();
  const nlohmann::json object = {{"mask", c.masks.front().str()},
                                 {"q", s.q_len},
                                 {"k", s.kv_len},
                                 {"q_offset", s.q_offset},
                                 {"heads", c.shape.num_q_heads},
                                 {"kv_heads", c.shape.num_kv_heads},
                                 {"head_dim", c.head_dim},
                                 {"density", verification.density},
                                 {"row_plan", verification.rows_fault},
                                 {"column_plan", verification.columns_fault},
                                 {"results", results},
                                 {"holds", verification.holds()}};
  std::cout << object.dump() << std::endl;
}

void VerifyCommand::run() const {
  const AttentionCase c = attention_case();
  ThreadPool pool(threads);
  const Verification verification = verify_attention(c, pool);
  if (json) {
    print_json(c, verification);
  } else {
    print(c, verification);
  }
  // A verdict, not an error: nothing more is to be said than the table does.
  if (!verification.holds()) throw CLI::RuntimeError(kFailed);
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto command = std::make_shared<VerifyCommand>();
  CLI::App& sub = *app.add_subcommand(
      "verify", "Hold a mask at given shapes against an exact f64 reference, everywhere");
  sub.add_option("mask", command->text, "The mask, e.g. \"causal & window(1024)\"")->required();
  add_option(sub, "--q", command->q, "Number of queries")->required();
  add_option(sub, "--k", command->k, "Number of keys; 0: as many as queries and offset");
  add_option(sub, "--q-offset", command->q_offset, "Position of the first query");
  add_option(sub, "--heads", command->heads, "Query heads");
  add_option(sub, "--kv-heads", command->kv_heads, "Key/value heads; 0: as many as query heads");
  add_option(sub, "--head-dim", command->head_dim, "Values of a head, 1 to 256");
  add_option(sub, "--labels", command->bindings,
             "What names in the mask mean, e.g. \"doc = segments(160*101, 224)\"");
  add_option(sub, "--soft-cap", command->soft_cap, "Cap of the scores; 0: none");
  add_flag(sub, "--alibi", command->alibi, "Bias scores by distance (ALiBi)");
  add_option(sub, "--seed", command->seed, "Seed of the random operands");
  add_option(sub, "--threads", command->threads, "CPU threads; 0: all cores");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  sub.footer(
      "Runs every instruction set of this CPU in bf16, f16, f32 and f64, forward and backward, "
      "and\n"
      "the GPU, if its kernels are built and one is there, forward in bf16 and f16;\n"
      "prints the worst row of each output. Exit status 0: all hold; 1: something is wrong.\n"
      "Examples:\n"
      "  perpend verify \"causal & (sink(64) | window(448))\" --q 1000 --heads 9 --kv-heads 3\n"
      "  perpend verify \"causal & same(doc)\" --labels \"doc = segments(96*5, 20)\" --q 500");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
