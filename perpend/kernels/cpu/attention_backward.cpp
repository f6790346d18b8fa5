#include "perpend/kernels/cpu/attention_backward.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "perpend/kernels/cpu/inner_panels.h"
#include "perpend/kernels/cpu/query_statistics.h"
#include "perpend/kernels/cpu/register_scope.h"
#include "perpend/kernels/cpu/score_changes.h"
#include "perpend/kernels/cpu/step_batch.h"

namespace perpend {
namespace {

// One sweep: the inner operands are k and v in a row sweep, q and d_o in a column sweep; the outer
// ones are the other two, in the same order.
template <class Real>
struct GradientCall {
  const TileMicro<Real>& micro;
  const AttentionArgs& args;
  const Schedule& schedule;
  const PanelForms& forms;
  const QueryStatistics<Real>& statistics;
  TokenRows outer;
  TokenRows outer_partner;
  TokenRows d_outer;          // dq, or dk
  TokenRows d_outer_partner;  // absent, or dv
  int dim;
  Real scale;

  bool by_rows() const { return schedule.sweep == Sweep::kRows; }
};

// What one thread needs to run items of either sweep. Scores are s = x y^T and products t = x' y'^T
// of the inner operands x, x' and the outer operands y, y'.
template <class Real>
class GradientWorker {
 public:
  GradientWorker(const GradientCall<Real>& call, int max_rows, ScratchLayout& layout)
      : call_(call),
        batch_(call.forms, max_rows, layout),
        changes_(call.args, call.schedule, call.scale, layout) {
    const auto rows = static_cast<std::size_t>(max_rows);
    const std::size_t panels = call.micro.panel_bytes(call.dim) * rows / tile::kLanes;
    const std::size_t sums = static_cast<std::size_t>(call.micro.padded(call.dim)) * rows;
    constexpr std::size_t kScores = StepBatch::kCapacity * tile::kBlock;
    const bool in_place = call.micro.weights_in_place;
    const std::size_t weights = call.micro.weight_bytes(StepBatch::kCapacity);
    lanes_at_ = layout.add<std::byte>(panels);
    partners_at_ = layout.add<std::byte>(panels);
    sums_at_ = layout.add<Real>(sums);
    partner_sums_at_ = call.by_rows() ? sums_at_ : layout.add<Real>(sums);
    scores_at_ = layout.add<Real>(kScores);
    products_at_ = layout.add<Real>(kScores);
    later_scores_at_ = overlaps() ? layout.add<Real>(kScores) : scores_at_;
    later_products_at_ = overlaps() ? layout.add<Real>(kScores) : products_at_;
    probabilities_at_ = in_place ? scores_at_ : layout.add<std::byte>(weights);
    gradients_at_ = in_place ? products_at_ : layout.add<std::byte>(weights);
    statistics_at_ = layout.add<Real>(std::max(2 * rows, kStatistics));
  }

  void bind(ScratchView scratch) {
    batch_.bind(scratch);
    changes_.bind(scratch);
    lanes_ = scratch.at<std::byte>(lanes_at_);
    partners_ = scratch.at<std::byte>(partners_at_);
    sums_ = scratch.at<Real>(sums_at_);
    partner_sums_ = scratch.at<Real>(partner_sums_at_);
    scores_ = scratch.at<Real>(scores_at_);
    products_ = scratch.at<Real>(products_at_);
    later_scores_ = scratch.at<Real>(later_scores_at_);
    later_products_ = scratch.at<Real>(later_products_at_);
    probabilities_ = scratch.at<std::byte>(probabilities_at_);
    gradients_ = scratch.at<std::byte>(gradients_at_);
    statistics_ = scratch.at<Real>(statistics_at_);
  }

  void run(const TileRun& run, const WorkItem& item) {
    if (!call_.by_rows()) return run_columns(run, item);
    if (item.list_stride == 0) return run_rows(run, item, item.q_head, item.num_heads);
    for (int h = 0; h < item.num_heads; ++h) run_rows(run, item, item.q_head + h, 1);
  }

 private:
  static constexpr std::size_t kStatistics = 2 * tile::kMaxUnits * tile::kUnit;

  // A block whose scores and products are there, and nothing else.
  struct Pending {
    int block = -1;  // none
    GradientStep<Real> gradients;
    UnitPanels columns;
    UnitPanels partner_columns;
  };

  // dq of heads that share a list.
  void run_rows(const TileRun& run, const WorkItem& item, int first_head, int num_heads) {
    rows_ = {item.sequence, first_head, num_heads, item.begin, item.size};
    start();
    find_lane_statistics();
    const int kv_head = first_head / call_.schedule.shape.group_size();
    add_list(run, kv_head, first_head, call_.schedule.list_of(item, first_head));
    finish(call_.d_outer, sums_, call_.scale);
  }

  // dk and dv of a tile of keys: the heads of the group one after another.
  void run_columns(const TileRun& run, const WorkItem& item) {
    rows_ = {item.sequence, item.q_head / call_.schedule.shape.group_size(), 1, item.begin,
             item.size};
    start();
    for (int head = item.q_head; head < item.q_head + item.num_heads; ++head) {
      add_list(run, head, head, call_.schedule.list_of(item, head));
    }
    finish(call_.d_outer, sums_, call_.scale);
    finish(call_.d_outer_partner, partner_sums_, 1);
  }

  void start() {
    for (int block = 0; block < rows_.num_blocks(); ++block) {
      call_.micro.pack_lanes(rows_.pointers(call_.outer, block), panel(lanes_, block));
      call_.micro.pack_lanes(rows_.pointers(call_.outer_partner, block), panel(partners_, block));
    }
    const int count = call_.micro.padded(call_.dim) * rows_.num_blocks() * tile::kLanes;
    std::fill_n(sums_, count, Real{0});
    if (!call_.by_rows()) std::fill_n(partner_sums_, count, Real{0});
  }

  void add_list(const TileRun& run, int inner_head, int q_head, std::span<const TileEntry> list) {
    batch_.for_batches(run, call_.schedule, rows_, inner_head, list, [&] {
      if (!call_.by_rows()) find_inner_statistics(q_head);
      for (int block = 0; block < rows_.num_blocks(); ++block) add_batch(block, q_head);
    });
    if (overlaps()) finish_pending();
  }

  // Whether the gradients of one block are made beside the products of the next.
  bool overlaps() const {
    return call_.micro.gradients_beside_scores != nullptr && !changes_.any();
  }

  void add_batch(int block, int q_head) {
    const StepBatch::Selection selection = batch_.select(block);
    const TileUnits& units = selection.units;
    if (units.count == 0) return;
    const TileMicro<Real>& micro = call_.micro;
    const PanelForms& forms = call_.forms;
    const std::array<ScoreStep<Real>, 2> steps = {
        ScoreStep<Real>{units, batch_.panels(selection, forms.rows(0)), panel(lanes_, block),
                        later_scores_},
        ScoreStep<Real>{units, batch_.panels(selection, forms.rows(1)), panel(partners_, block),
                        later_products_}};
    const Pending next{block, gradient_step(selection, block),
                       batch_.panels(selection, forms.columns(0)),
                       call_.by_rows() ? UnitPanels{} : batch_.panels(selection, forms.columns(1))};
    if (overlaps() && pending_.block >= 0) {
      micro.gradients_beside_scores(call_.dim, pending_.gradients, steps);
      accumulate(pending_);
    } else {
      for (const ScoreStep<Real>& step : steps) micro.scores(call_.dim, step);
    }
    if (overlaps()) {
      pending_ = next;
      std::swap(scores_, later_scores_);
      std::swap(products_, later_products_);
      return;
    }
    if (changes_.any()) {
      changes_.apply(micro, batch_, selection, rows_, block, q_head, true, later_scores_);
    }
    micro.gradients(next.gradients);
    accumulate(next);
  }

  void finish_pending() {
    if (pending_.block < 0) return;
    call_.micro.gradients(pending_.gradients);
    accumulate(pending_);
    pending_.block = -1;
  }

  void accumulate(const Pending& step) const {
    const TileUnits& units = step.gradients.units;
    call_.micro.accumulate(call_.dim, units, step.columns, gradients_, sums_of(sums_, step.block));
    if (call_.by_rows()) return;
    call_.micro.accumulate(call_.dim, units, step.partner_columns, probabilities_,
                           sums_of(partner_sums_, step.block));
  }

  GradientStep<Real> gradient_step(const StepBatch::Selection& selection, int block) const {
    GradientStep<Real> step{selection.units,
                            changes_.softmax_scale(),
                            later_scores_,
                            later_products_,
                            changes_.any() ? changes_.derivatives() : nullptr,
                            probabilities_,
                            gradients_,
                            nullptr,
                            nullptr,
                            {},
                            {}};
    if (call_.by_rows()) {
      step.lane_lse = statistics_ + block * tile::kLanes;
      step.lane_delta = step.lane_lse + rows_.num_blocks() * tile::kLanes;
      return step;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(selection.units.count); ++i) {
      const std::size_t unit = selection.chosen[i];
      step.inner_lse[i] = inner_lse_[unit];
      step.inner_delta[i] = inner_delta_[unit];
    }
    return step;
  }

  // lse and delta of the query rows across lanes; rows beyond the last get no probability.
  void find_lane_statistics() {
    const int lanes = rows_.num_blocks() * tile::kLanes;
    std::fill_n(statistics_, lanes, std::numeric_limits<Real>::infinity());
    std::fill_n(statistics_ + lanes, lanes, Real{0});
    for (int h = 0; h < rows_.num_heads; ++h) {
      const int head = rows_.first_head + h;
      std::copy_n(call_.statistics.lse(rows_.sequence, head) + rows_.begin, rows_.size,
                  statistics_ + h * rows_.size);
      std::copy_n(call_.statistics.delta(rows_.sequence, head) + rows_.begin, rows_.size,
                  statistics_ + lanes + h * rows_.size);
    }
  }

  // lse and delta of the query rows of each unit: where they are, unless they must be gathered.
  void find_inner_statistics(int q_head) {
    const Real* lse = call_.statistics.lse(rows_.sequence, q_head);
    const Real* delta = call_.statistics.delta(rows_.sequence, q_head);
    for (std::size_t unit = batch_.begin(); unit < batch_.end(); ++unit) {
      const PanelForms::Tokens& tokens = batch_.tokens(unit);
      if (batch_.is_run(unit)) {
        inner_lse_[unit] = lse + tokens[0];
        inner_delta_[unit] = delta + tokens[0];
        continue;
      }
      Real* own_lse = statistics_ + unit * tile::kUnit;
      Real* own_delta = own_lse + tile::kMaxUnits * tile::kUnit;
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        const bool exists = tokens[row] >= 0;
        own_lse[row] = exists ? lse[tokens[row]] : std::numeric_limits<Real>::infinity();
        own_delta[row] = exists ? delta[tokens[row]] : Real{0};
      }
      inner_lse_[unit] = own_lse;
      inner_delta_[unit] = own_delta;
    }
  }

  void finish(const TokenRows& to, const Real* sums, Real factor) const {
    alignas(64) std::array<Real, tile::kLanes> factors;
    factors.fill(factor);
    for (int block = 0; block < rows_.num_blocks(); ++block) {
      call_.micro.store_lanes(sums_of(sums, block), factors.data(), rows_.pointers(to, block));
    }
  }

  std::byte* panel(std::byte* panels, int block) const {
    return panels + static_cast<std::size_t>(block) * call_.micro.panel_bytes(call_.dim);
  }
  template <class T>
  T* sums_of(T* sums, int block) const {
    return sums + block * tile::kLanes * call_.micro.padded(call_.dim);
  }

  const GradientCall<Real>& call_;
  StepBatch batch_;
  ScoreChanges<Real> changes_;
  OuterRows rows_;
  Pending pending_;
  std::array<const Real*, tile::kMaxUnits> inner_lse_{};
  std::array<const Real*, tile::kMaxUnits> inner_delta_{};
  std::size_t lanes_at_ = 0;
  std::size_t partners_at_ = 0;
  std::size_t sums_at_ = 0;
  std::size_t partner_sums_at_ = 0;
  std::size_t scores_at_ = 0;
  std::size_t products_at_ = 0;
  std::size_t later_scores_at_ = 0;
  std::size_t later_products_at_ = 0;
  std::size_t probabilities_at_ = 0;
  std::size_t gradients_at_ = 0;
  std::size_t statistics_at_ = 0;
  std::byte* lanes_ = nullptr;     // [blocks] panels of y
  std::byte* partners_ = nullptr;  // of y'
  Real* sums_ = nullptr;           // [blocks, padded dim, kLanes]
  Real* partner_sums_ = nullptr;
  Real* scores_ = nullptr;        // [units, kUnit, kLanes], of the pending block
  Real* products_ = nullptr;      // likewise
  Real* later_scores_ = nullptr;  // the same places where nothing overlaps
  Real* later_products_ = nullptr;
  std::byte* probabilities_ = nullptr;
  std::byte* gradients_ = nullptr;
  Real* statistics_ = nullptr;  // lse and delta of lanes, or of gathered units
};

bool takes_all(const Schedule& /*schedule*/, const WorkItem& /*item*/) { return true; }

// A sweep that is laid out and can be run.
template <class Real>
class GradientSweep {
 public:
  GradientSweep(const GradientCall<Real>& call, ScratchLayout& layout, int num_workers)
      : call_(call),
        run_(call.schedule, call.forms, takes_all, layout),
        prototype_(call, run_.max_rows(), worker_layout_),
        workers_at_(
            layout.add<std::byte>(worker_layout_.size() * static_cast<std::size_t>(num_workers))),
        num_workers_(num_workers) {}

  void run(Scratch& scratch, ThreadPool& threads) {
    run_.run(scratch.view(), num_workers_, threads, [&](int index, TileRun::Items& items) {
      const RegisterScope registers(call_.micro);
      GradientWorker<Real> worker = prototype_;
      worker.bind(
          scratch.view(workers_at_ + static_cast<std::size_t>(index) * worker_layout_.size()));
      while (const WorkItem* item = items.next()) worker.run(run_, *item);
    });
  }

 private:
  const GradientCall<Real>& call_;
  ScratchLayout worker_layout_;
  TileRun run_;
  GradientWorker<Real> prototype_;
  std::size_t workers_at_;
  int num_workers_;
};

}  // namespace

template <class Real>
void attention_backward_tiles(const TileMicro<Real>& micro, const AttentionGradArgs& args,
                              const Schedule& rows, const Schedule& columns, Stream stream) {
  const AttentionArgs& forward = args.forward;
  const TokenRows q(forward.q, forward.q_indptr);
  const TokenRows d_o(args.d_o, forward.q_indptr);
  const TokenRows k(forward.k, forward.kv_indptr);
  const TokenRows v(forward.v, forward.kv_indptr);
  const auto scale = static_cast<Real>(scale_of(forward, q.dim()));
  ScratchLayout layout;
  QueryStatistics<Real> statistics(rows.shape, layout);

  const std::array<InnerOperand, 2> keys = {InnerOperand{k, true, true},
                                            InnerOperand{v, true, false}};
  const PanelForms key_forms(micro, q.dim(), keys);
  const GradientCall<Real> row_call{micro,      forward, rows, key_forms,
                                    statistics, q,       d_o,  TokenRows(args.dq, forward.q_indptr),
                                    {},         q.dim(), scale};
  const std::array<InnerOperand, 2> queries = {InnerOperand{q, true, true},
                                               InnerOperand{d_o, true, true}};
  const PanelForms query_forms(micro, q.dim(), queries);
  const GradientCall<Real> column_call{micro,
                                       forward,
                                       columns,
                                       query_forms,
                                       statistics,
                                       k,
                                       v,
                                       TokenRows(args.dk, forward.kv_indptr),
                                       TokenRows(args.dv, forward.kv_indptr),
                                       q.dim(),
                                       scale};
  // The sweeps run one after the other and share their memory.
  ScratchLayout column_layout = layout;
  const int num_workers = stream.threads->num_threads();
  GradientSweep<Real> row_sweep(row_call, layout, num_workers);
  GradientSweep<Real> column_sweep(column_call, column_layout, num_workers);
  Scratch scratch(forward.scratch, std::max(layout.size(), column_layout.size()));
  statistics.compute(scratch.view(), micro, args, *stream.threads);
  row_sweep.run(scratch, *stream.threads);
  column_sweep.run(scratch, *stream.threads);
}

template void attention_backward_tiles(const TileMicro<float>& micro, const AttentionGradArgs& args,
                                       const Schedule& rows, const Schedule& columns,
                                       Stream stream);
template void attention_backward_tiles(const TileMicro<double>& micro,
                                       const AttentionGradArgs& args, const Schedule& rows,
                                       const Schedule& columns, Stream stream);

}  // namespace perpend
