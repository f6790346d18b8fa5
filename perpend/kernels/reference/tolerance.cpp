#include "perpend/kernels/reference/tolerance.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "perpend/core/error.h"

namespace perpend {
namespace {

struct Tolerances {
  double o;
  double lse;
  double gradient;
  double score;      // of one score, relative to its size
  double num_terms;  // head_dim up to which they hold
};

// A row's error is that of its largest probabilities and of the operands' own rounding: 2^-9 of a
// value for bf16, 2^-12 for f16, 2^-25 for f32. Scores are summed in f32 (f64), whatever the type.
// Each is some three times the worst that long campaigns met on any instruction set. In f64 sums of
// head_dim products are all that rounds, and they are off by the root of their number.
constexpr Tolerances kF64 = {5e-15, 1e-14, 1e-14, 5e-16, 64};
constexpr Tolerances kF32 = {1e-5, 2e-6, 2e-5, 1e-6, 256};
constexpr Tolerances kF16 = {1e-3, 6e-6, 1.5e-3, 1e-6, 256};
constexpr Tolerances kBF16 = {1e-2, 1e-5, 2e-2, 1e-6, 256};

const Tolerances& tolerances_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return kF64;
    case DType::kF32:
      return kF32;
    case DType::kF16:
      return kF16;
    case DType::kBF16:
      return kBF16;
    default:
      bug("attention_tolerance: not a float type");
  }
}

}  // namespace

std::string_view name_of(AttentionOutput output) {
  static constexpr std::array<std::string_view, 5> kNames = {"o", "lse", "dq", "dk", "dv"};
  return kNames[static_cast<std::size_t>(output)];
}

double attention_tolerance(DType dtype, AttentionOutput output, double score_size,
                           std::int64_t head_dim) {
  const Tolerances& tolerances = tolerances_of(dtype);
  const double growth =
      std::sqrt(std::max(1.0, static_cast<double>(head_dim) / tolerances.num_terms));
  const double of_scores = tolerances.score * score_size;
  switch (output) {
    case AttentionOutput::kO:
      return growth * (tolerances.o + of_scores);
    case AttentionOutput::kLse:
      return tolerances.lse;
    default:
      return growth * (tolerances.gradient + of_scores);
  }
}

}  // namespace perpend
