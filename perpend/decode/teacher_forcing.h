#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perpend/models/loaded_model.h"

namespace perpend {

// A model over a given text: each token predicted from those before it in its window.
struct TeacherForcing {
  const LoadedModel& model;
  Context& context;
  DType kv_dtype;
  std::vector<Mask> layer_masks;  // empty: those of the model
  std::int64_t window = 1024;     // the text is cut into windows of this many tokens
};

struct Score {
  std::int64_t count = 0;  // predicted tokens
  double mean_nll = 0;     // nats a token; perplexity is its exponential
};

// How one run predicts beside a reference run of the same tokens.
struct Agreement {
  std::int64_t count = 0;
  double mean_nll = 0;
  double mean_nll_reference = 0;
  double top1 = 0;     // share of positions with the same likeliest token
  double mean_kl = 0;  // KL(reference || run), nats a token
};

using TokenProgress = std::function<void(std::int64_t done)>;

// Throws InvalidArgument for fewer than two tokens or a window outside [2, context].
Score score_teacher_forced(const TeacherForcing& run, std::span<const std::int32_t> tokens,
                           const TokenProgress& progress = {});
Agreement compare_teacher_forced(const TeacherForcing& run, const TeacherForcing& reference,
                                 std::span<const std::int32_t> tokens,
                                 const TokenProgress& progress = {});

}  // namespace perpend
