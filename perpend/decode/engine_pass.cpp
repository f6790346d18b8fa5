#include "perpend/decode/engine_pass.h"

#include <algorithm>

namespace perpend {

EnginePass::EnginePass(std::span<EngineRequest* const> members, Context& context)
    : context_(context) {
  std::vector<std::int64_t> first_rows;
  for (EngineRequest* member : members) {
    const Step& step = member->step();
    first_rows.push_back(static_cast<std::int64_t>(tokens_.size()));
    tokens_.insert(tokens_.end(), step.tokens.begin(), step.tokens.end());
    rows_.push_back(member->rows());
    masks_.push_back(member->masks());
    masks_differ_ |= !std::ranges::equal(masks_.back(), masks_.front());
  }
  for (const bool summaries : {true, false}) {
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (members[i]->takes_summaries(context) != summaries) continue;
      add_wanted_rows(*members[i], first_rows[i]);
    }
    if (summaries) num_summaries_ = static_cast<std::int64_t>(logit_rows_.size());
  }
}

void EnginePass::add_wanted_rows(EngineRequest& request, std::int64_t first_row) {
  const Step& step = request.step();
  if (step.logit_rows.empty()) return;
  const auto first = static_cast<std::int64_t>(logit_rows_.size());
  for (const std::int32_t row : step.logit_rows) {
    logit_rows_.push_back(static_cast<std::int32_t>(first_row + row));
  }
  // It is the mask token of the model, which all requests share.
  if (!parts_.empty() && step.banned_token != banned_token_) {
    bug("engine: steps of one model ban different tokens");
  }
  banned_token_ = step.banned_token;
  parts_.push_back({&request, {first, static_cast<std::int64_t>(logit_rows_.size())}});
}

ForwardInput EnginePass::input() const {
  ForwardInput input{tokens_, rows_, masks_.front(), logit_rows_};
  if (masks_differ_) input.sequence_masks = masks_;
  return input;
}

void EnginePass::for_pieces(Range chunk, FunctionRef<void(const Piece&)> take) const {
  std::vector<Piece> pieces;
  for (const Part& part : parts_) {
    const std::int64_t begin = std::max(part.wanted.begin, chunk.begin);
    const std::int64_t count = std::min(part.wanted.end, chunk.end) - begin;
    if (count <= 0) continue;
    pieces.push_back({part.request, begin - part.wanted.begin, begin - chunk.begin, count});
  }
  context_.stream.threads->parallel_for(std::ssize(pieces), 1, [&](Range range) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      take(pieces[static_cast<std::size_t>(i)]);
    }
  });
}

void EnginePass::run(PassRunner& runner) {
  runner.run(
      input(), banned_token_, num_summaries_,
      [&](std::int64_t first, std::span<const VocabularySummary> rows) {
        for_pieces({first, first + std::ssize(rows)}, [&](const Piece& piece) {
          piece.request->take(piece.first, rows.subspan(static_cast<std::size_t>(piece.begin),
                                                        static_cast<std::size_t>(piece.count)));
        });
      },
      [&](std::int64_t first, const torch::Tensor& logits) {
        for_pieces({first, first + logits.size(0)}, [&](const Piece& piece) {
          piece.request->take(piece.first, logits.narrow(0, piece.begin, piece.count), context_);
        });
      });
}

}  // namespace perpend
