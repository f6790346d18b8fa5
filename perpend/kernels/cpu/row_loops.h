#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "perpend/kernels/cpu/row_conversion.h"
#include "perpend/kernels/cpu/row_micro.h"
#include "perpend/kernels/cpu/vector_math.h"

// The loops of the row-wise kernels over a vector type; included by one source file for each
// instruction set (see few_rows_loops.h).

namespace perpend {

// to = f(a, b) element by element.
template <class Vec, class F>
void transform(const float* a, const float* b, std::int64_t count, float* to, F f) {
  for_vectors<Vec>(
      count, [&](std::int64_t i) { f(Vec::load(a + i), Vec::load(b + i)).store(to + i); },
      [&](std::int64_t i, std::int64_t rest) {
        store_partial<Vec>(f(load_partial<Vec>(a + i, rest), load_partial<Vec>(b + i, rest)), rest,
                           to + i);
      });
}

template <class Vec>
void rms_norm(float* x, const float* residual, const float* weight, float epsilon, std::int64_t dim,
              float* out) {
  if (residual != nullptr) {
    transform<Vec>(x, residual, dim, x, [](Vec a, Vec b) { return a + b; });
  }
  Vec squares = Vec::zero();
  for_vectors<Vec>(
      dim,
      [&](std::int64_t i) {
        const Vec value = Vec::load(x + i);
        squares = Vec::fma(value, value, squares);
      },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec value = load_partial<Vec>(x + i, rest);
        squares = Vec::fma(value, value, squares);
      });
  const float mean = Vec::sum(squares) / static_cast<float>(dim);
  const Vec inverse = Vec::set1(1.0F / std::sqrt(mean + epsilon));
  transform<Vec>(x, weight, dim, out, [&](Vec a, Vec b) { return a * inverse * b; });
}

template <class Vec>
void rotate(RotaryLayout layout, const float* cos, const float* sin, int half, float* head) {
  if (layout == RotaryLayout::kInterleaved) {
    for (int i = 0; i < half; ++i) {
      const float a = head[2 * i];
      const float b = head[2 * i + 1];
      head[2 * i] = a * cos[i] - b * sin[i];
      head[2 * i + 1] = a * sin[i] + b * cos[i];
    }
    return;
  }
  const auto turn = [&](Vec a, Vec b, Vec c, Vec s, auto store) {
    store(a * c - b * s, b * c + a * s);
  };
  for_vectors<Vec>(
      half,
      [&](std::int64_t i) {
        turn(Vec::load(head + i), Vec::load(head + half + i), Vec::load(cos + i),
             Vec::load(sin + i), [&](Vec low, Vec high) {
               low.store(head + i);
               high.store(head + half + i);
             });
      },
      [&](std::int64_t i, std::int64_t rest) {
        turn(load_partial<Vec>(head + i, rest), load_partial<Vec>(head + half + i, rest),
             load_partial<Vec>(cos + i, rest), load_partial<Vec>(sin + i, rest),
             [&](Vec low, Vec high) {
               store_partial(low, rest, head + i);
               store_partial(high, rest, head + half + i);
             });
      });
}

// 1 / (1 + e^-x)
template <class Vec>
Vec sigmoid(Vec x) {
  // exp2 needs an argument of at most 126; beyond it the result is 0 in f32 anyway.
  const Vec limit = Vec::set1(-125.0F);
  const Vec power = Vec::max(x * Vec::set1(1.44269504F), limit);
  return Vec::set1(1.0F) / (Vec::set1(1.0F) + exp2(Vec::zero() - power));
}

// x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, where (1 + tanh y) / 2 = sigmoid(2 y)
template <class Vec>
Vec gelu_tanh(Vec x) {
  const Vec inner = Vec::fma(x * x * x, Vec::set1(0.044715F), x) * Vec::set1(1.59576912F);
  return x * sigmoid(inner);
}

template <class Vec>
void gated(Activation activation, const float* gate, const float* up, std::int64_t count,
           float* out) {
  switch (activation) {
    case Activation::kSilu:
      return transform<Vec>(gate, up, count, out, [](Vec a, Vec b) { return a * sigmoid(a) * b; });
    case Activation::kGeluTanh:
      return transform<Vec>(gate, up, count, out, [](Vec a, Vec b) { return gelu_tanh(a) * b; });
    case Activation::kGelu:
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = 0.5F * gate[i] * (1.0F + std::erf(gate[i] * 0.70710678F)) * up[i];
      }
  }
}

template <class Vec>
VocabularySummary summarize(const float* logits, std::int64_t count) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  Vec top = Vec::set1(kLowest);
  for_vectors<Vec>(
      count, [&](std::int64_t i) { top = Vec::max(top, Vec::load(logits + i)); },
      [&](std::int64_t i, std::int64_t rest) {
        top = Vec::max(top, load_partial<Vec>(logits + i, rest, kLowest));
      });
  VocabularySummary summary;
  summary.max = Vec::largest(top);
  while (summary.argmax < count && logits[summary.argmax] != summary.max) ++summary.argmax;
  if (summary.argmax == count) summary.argmax = 0;  // only NaN: any index is as good
  // Sums of short runs in f32, joined in f64: exact enough for a vocabulary of millions.
  double total = 0.0;
  const Vec base = Vec::set1(summary.max > -1e30F ? summary.max : -1e30F);
  const Vec log2e = Vec::set1(1.44269504F);
  constexpr std::int64_t kRun = 1024;
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    Vec sum = Vec::zero();
    for_vectors<Vec>(
        std::min(kRun, count - begin),
        [&](std::int64_t i) { sum = sum + exp2((Vec::load(logits + begin + i) - base) * log2e); },
        [&](std::int64_t i, std::int64_t rest) {
          sum = sum + exp2((load_partial<Vec>(logits + begin + i, rest, kLowest) - base) * log2e);
        });
    total += Vec::sum(sum);
  }
  summary.logsumexp = static_cast<float>(summary.max + std::log(total));
  return summary;
}

template <class Vec>
constexpr RowMicro make_row_micro() {
  return {rms_norm<Vec>, rotate<Vec>, store_row<Vec>, gated<Vec>, summarize<Vec>};
}

}  // namespace perpend
