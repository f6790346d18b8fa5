#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/attention_operands.h"
#include "perpend/kernels/cpu/scratch.h"
#include "perpend/kernels/cpu/step_batch.h"

namespace perpend {

// ScoreChange in the coordinates of blocks. A negative scale counts as a change too, since the
// softmax takes the largest score before it scales.
template <class Real>
class ScoreChanges {
 public:
  ScoreChanges(const AttentionArgs& args, const Schedule& schedule, Real scale,
               ScratchLayout& layout)
      : args_(args), schedule_(schedule), scale_(scale) {
    if (!any()) return;
    memory_at_ = layout.add<Real>(kReals);
  }

  bool any() const { return scale_ < 0 || changes_scores(args_.score); }
  // What takes scores to base 2 after the change.
  Real softmax_scale() const {
    return any() ? Real{1} : scale_ * static_cast<Real>(1.4426950408889634);
  }
  void bind(ScratchView scratch) {
    if (any()) memory_ = scratch.at<Real>(memory_at_);
  }
  // Derivatives of changed scores, written by apply() when asked for; null when they are all 1.
  Real* derivatives() const {
    return args_.score.soft_cap != 0.0F ? memory_ + kDerivatives : nullptr;
  }

  // Changes the scores of a block. Inner heads are those of keys in a row sweep, else `q_head`.
  void apply(const TileMicro<Real>& micro, const StepBatch& batch,
             const StepBatch::Selection& selection, const OuterRows& rows, int block, int q_head,
             bool wants_derivatives, Real* scores) const {
    LaneScoreChange<Real> change{scale_,  static_cast<Real>(args_.score.soft_cap),
                                 nullptr, nullptr,
                                 {},      wants_derivatives ? derivatives() : nullptr};
    if (args_.score.alibi_slopes) find_places(batch, selection, rows, block, q_head, change);
    micro.change(selection.units, change, scores);
  }

 private:
  static constexpr int kSlopes = 0;
  static constexpr int kOuter = kSlopes + tile::kLanes;
  static constexpr int kInner = kOuter + tile::kLanes;
  static constexpr int kDerivatives = kInner + tile::kMaxUnits * tile::kUnit;
  static constexpr int kReals = kDerivatives + tile::kMaxUnits * tile::kBlock;

  void find_places(const StepBatch& batch, const StepBatch::Selection& selection,
                   const OuterRows& rows, int block, int q_head,
                   LaneScoreChange<Real>& change) const {
    const bool by_rows = schedule_.sweep == Sweep::kRows;
    const auto q_offset =
        schedule_.shape.sequences[static_cast<std::size_t>(rows.sequence)].q_offset;
    const std::int64_t outer_offset = by_rows ? q_offset : 0;
    const std::int64_t inner_offset = by_rows ? 0 : q_offset;
    const TensorView& slopes = args_.score.alibi_slopes;
    for (int lane = 0; lane < tile::kLanes; ++lane) {
      const int row = std::min(block * tile::kLanes + lane, rows.num_rows() - 1);
      const int head = by_rows ? rows.head(row) : q_head;
      memory_[kSlopes + lane] = slopes.as<const float>()[head * slopes.stride(0)];
      memory_[kOuter + lane] = static_cast<Real>(outer_offset + rows.token(row));
    }
    change.slopes = memory_ + kSlopes;
    change.outer_places = memory_ + kOuter;
    for (int u = 0; u < selection.units.count; ++u) {
      const auto index = static_cast<std::size_t>(u);
      Real* places = memory_ + kInner + u * tile::kUnit;
      const PanelForms::Tokens& tokens = batch.tokens(selection.chosen[index]);
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        places[i] = static_cast<Real>(inner_offset + tokens[i]);
      }
      change.inner_places[index] = places;
    }
  }

  const AttentionArgs& args_;
  const Schedule& schedule_;
  Real scale_;
  std::size_t memory_at_ = 0;
  Real* memory_ = nullptr;
};

}  // namespace perpend
