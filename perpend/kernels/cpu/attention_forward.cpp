#include "perpend/kernels/cpu/attention_forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "perpend/kernels/cpu/attention_operands.h"
#include "perpend/kernels/cpu/inner_panels.h"
#include "perpend/kernels/cpu/register_scope.h"
#include "perpend/kernels/cpu/score_changes.h"
#include "perpend/kernels/cpu/step_batch.h"

namespace perpend {
namespace {

constexpr int kKeys = 0;
constexpr int kValues = 1;

template <class Real>
struct ForwardCall {
  const TileMicro<Real>& micro;
  const AttentionArgs& args;
  const Schedule& schedule;
  const PanelForms& forms;
  TokenRows q;
  TokenRows o;
  RowValues lse;
  int dim;
  Real scale;
};

// What one thread needs to run items.
template <class Real>
class ForwardWorker {
 public:
  ForwardWorker(const ForwardCall<Real>& call, int max_rows, ScratchLayout& layout)
      : call_(call),
        batch_(call.forms, max_rows, layout),
        changes_(call.args, call.schedule, call.scale, layout) {
    const auto rows = static_cast<std::size_t>(max_rows);
    const auto blocks = rows / tile::kLanes;
    const auto dim = static_cast<std::size_t>(call.micro.padded(call.dim));
    constexpr std::size_t kScores = StepBatch::kCapacity * tile::kBlock;
    q_at_ = layout.add<std::byte>(call.micro.panel_bytes(call.dim) * blocks);
    sums_at_ = layout.add<Real>(dim * rows);
    state_at_ = layout.add<Real>(2 * rows);
    scores_at_ = layout.add<Real>(kScores);
    later_scores_at_ = overlaps() ? layout.add<Real>(kScores) : scores_at_;
    weights_at_ = call.micro.weights_in_place
                      ? scores_at_
                      : layout.add<std::byte>(call.micro.weight_bytes(StepBatch::kCapacity));
  }

  void bind(ScratchView scratch) {
    batch_.bind(scratch);
    changes_.bind(scratch);
    q_ = scratch.at<std::byte>(q_at_);
    sums_ = scratch.at<Real>(sums_at_);
    state_ = scratch.at<Real>(state_at_);
    scores_ = scratch.at<Real>(scores_at_);
    later_scores_ = scratch.at<Real>(later_scores_at_);
    weights_ = scratch.at<std::byte>(weights_at_);
  }

  void run(const TileRun& run, const WorkItem& item) {
    if (item.list_stride == 0) {
      run_heads(run, item, item.q_head, item.num_heads);
    } else {
      for (int h = 0; h < item.num_heads; ++h) run_heads(run, item, item.q_head + h, 1);
    }
  }

 private:
  // A block whose scores are there, and nothing else.
  struct Pending {
    int block = -1;  // none
    SoftmaxStep<Real> softmax;
    UnitPanels values;
  };

  // Heads that share a list.
  void run_heads(const TileRun& run, const WorkItem& item, int first_head, int num_heads) {
    rows_ = {item.sequence, first_head, num_heads, item.begin, item.size};
    start();
    const int kv_head = first_head / call_.schedule.shape.group_size();
    bool is_first = true;
    batch_.for_batches(run, call_.schedule, rows_, kv_head,
                       call_.schedule.list_of(item, first_head), [&] {
                         for (int block = 0; block < rows_.num_blocks(); ++block) {
                           if (is_first) prefetch_to_write(rows_.pointers(call_.o, block));
                           add_batch(block);
                         }
                         is_first = false;
                       });
    if (overlaps()) finish_pending();
    for (int block = 0; block < rows_.num_blocks(); ++block) finish(block);
  }

  void start() {
    const int lanes = rows_.num_blocks() * tile::kLanes;
    for (int block = 0; block < rows_.num_blocks(); ++block) {
      call_.micro.pack_lanes(rows_.pointers(call_.q, block), q_panel(block));
    }
    std::fill_n(sums_, call_.micro.padded(call_.dim) * lanes, Real{0});
    std::fill_n(state_, lanes, -std::numeric_limits<Real>::infinity());
    std::fill_n(state_ + lanes, lanes, Real{0});
  }

  // Whether the softmax of one block runs beside the products of the next.
  bool overlaps() const { return call_.micro.softmax_beside_scores != nullptr && !changes_.any(); }

  void add_batch(int block) {
    const StepBatch::Selection selection = batch_.select(block);
    if (selection.units.count == 0) return;
    const ScoreStep<Real> step{selection.units, batch_.panels(selection, call_.forms.rows(kKeys)),
                               q_panel(block), later_scores_};
    const Pending next{block, softmax_step(selection.units, block),
                       batch_.panels(selection, call_.forms.columns(kValues))};
    if (!overlaps()) {
      call_.micro.scores(call_.dim, step);
      if (changes_.any()) {
        changes_.apply(call_.micro, batch_, selection, rows_, block, 0, false, step.scores);
      }
      call_.micro.softmax(call_.dim, next.softmax);
      return accumulate(next);
    }
    if (pending_.block < 0) {
      call_.micro.scores(call_.dim, step);
    } else {
      call_.micro.softmax_beside_scores(call_.dim, pending_.softmax, step);
      accumulate(pending_);
    }
    pending_ = next;
    std::swap(scores_, later_scores_);
  }

  void finish_pending() {
    if (pending_.block < 0) return;
    call_.micro.softmax(call_.dim, pending_.softmax);
    accumulate(pending_);
    pending_.block = -1;
  }

  SoftmaxStep<Real> softmax_step(const TileUnits& units, int block) const {
    return {units, changes_.softmax_scale(), later_scores_, weights_, state_of(block)};
  }

  void accumulate(const Pending& step) const {
    call_.micro.accumulate(call_.dim, step.softmax.units, step.values, weights_,
                           step.softmax.state.sums);
  }

  void finish(int block) {
    const LaneState<Real> state = state_of(block);
    alignas(64) std::array<Real, tile::kLanes> factors;
    const int first = block * tile::kLanes;
    int head = rows_.head(first);
    std::int64_t token = rows_.token(first);
    for (int lane = 0; lane < tile::kLanes; ++lane) {
      const Real sum = state.row_sum[lane];
      const bool empty = sum == 0;
      factors[static_cast<std::size_t>(lane)] = empty ? Real{0} : 1 / sum;
      if (first + lane >= rows_.num_rows()) continue;
      // Whatever dead keys hold, such a row is zero.
      for (int d = 0; empty && d < call_.dim; ++d) state.sums[d * tile::kLanes + lane] = 0;
      if (!call_.lse) continue;
      call_.lse.template at<Real>(rows_.sequence, head, token) =
          empty ? -std::numeric_limits<Real>::infinity()
                : state.base[lane] * std::numbers::ln2_v<Real> + std::log(sum);
      if (++token == rows_.begin + rows_.size) {
        token = rows_.begin;
        ++head;
      }
    }
    call_.micro.store_lanes(state.sums, factors.data(), rows_.pointers(call_.o, block));
  }

  std::byte* q_panel(int block) const {
    return q_ + static_cast<std::size_t>(block) * call_.micro.panel_bytes(call_.dim);
  }
  LaneState<Real> state_of(int block) const {
    const int lanes = rows_.num_blocks() * tile::kLanes;
    const int first = block * tile::kLanes;
    return {state_ + first, state_ + lanes + first, sums_ + first * call_.micro.padded(call_.dim)};
  }

  const ForwardCall<Real>& call_;
  StepBatch batch_;
  ScoreChanges<Real> changes_;
  OuterRows rows_;
  Pending pending_;
  std::size_t q_at_ = 0;
  std::size_t sums_at_ = 0;
  std::size_t state_at_ = 0;
  std::size_t scores_at_ = 0;
  std::size_t later_scores_at_ = 0;
  std::size_t weights_at_ = 0;
  std::byte* q_ = nullptr;        // [blocks] panels
  Real* sums_ = nullptr;          // [blocks, padded dim, kLanes]
  Real* state_ = nullptr;         // bases, then row sums
  Real* scores_ = nullptr;        // [units, kUnit, kLanes], of the pending block
  Real* later_scores_ = nullptr;  // the same place where nothing overlaps
  std::byte* weights_ = nullptr;  // the same
};

}  // namespace

template <class Real>
void attention_forward_tiles(const TileMicro<Real>& micro, const AttentionArgs& args,
                             const Schedule& schedule,
                             bool (*takes)(const Schedule&, const WorkItem&), Stream stream) {
  const TokenRows q(args.q, args.q_indptr);
  const TensorView& kv_pages = args.page_table;
  const std::array<InnerOperand, 2> operands = {
      InnerOperand{TokenRows(args.k, args.kv_indptr, kv_pages), true, false},
      InnerOperand{TokenRows(args.v, args.kv_indptr, kv_pages), false, true}};
  const PanelForms forms(micro, q.dim(), operands);
  ScratchLayout layout;
  TileRun run(schedule, forms, takes, layout);
  if (run.is_empty()) return;
  const ForwardCall<Real> call{micro,
                               args,
                               schedule,
                               forms,
                               q,
                               TokenRows(args.o, args.q_indptr),
                               RowValues(args.lse, args.q_indptr),
                               q.dim(),
                               static_cast<Real>(scale_of(args, q.dim()))};
  ScratchLayout worker_layout;
  const ForwardWorker<Real> prototype(call, run.max_rows(), worker_layout);
  const int num_workers = stream.threads->num_threads();
  const std::size_t workers_at =
      layout.add<std::byte>(worker_layout.size() * static_cast<std::size_t>(num_workers));
  Scratch scratch(args.scratch, layout.size());
  run.run(scratch.view(), num_workers, *stream.threads, [&](int index, TileRun::Items& items) {
    const RegisterScope registers(micro);
    ForwardWorker<Real> worker = prototype;
    worker.bind(scratch.view(workers_at + static_cast<std::size_t>(index) * worker_layout.size()));
    while (const WorkItem* item = items.next()) worker.run(run, *item);
  });
}

template void attention_forward_tiles(const TileMicro<float>& micro, const AttentionArgs& args,
                                      const Schedule& schedule,
                                      bool (*takes)(const Schedule&, const WorkItem&),
                                      Stream stream);
template void attention_forward_tiles(const TileMicro<double>& micro, const AttentionArgs& args,
                                      const Schedule& schedule,
                                      bool (*takes)(const Schedule&, const WorkItem&),
                                      Stream stream);

}  // namespace perpend
