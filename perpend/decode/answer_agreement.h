#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "perpend/decode/recorded_step.h"

namespace perpend {

// How far two answers to one prompt go together. Tokens are compared in their places, so that one
// that is left out changes all behind it.
struct AnswerAgreement {
  std::int64_t num_tokens = 0;  // of the longer answer
  std::int64_t num_equal = 0;
  std::optional<std::int64_t> first_token;  // that differs, counted from 0; absent: none does
  // The first of the steps that filled something, counted from 0, to fill other positions or other
  // tokens; absent: none does, or nobody recorded the steps.
  std::optional<std::int64_t> first_step;

  double share() const {
    return num_tokens == 0 ? 1 : static_cast<double>(num_equal) / static_cast<double>(num_tokens);
  }
};

AnswerAgreement agreement_of(std::span<const Sample> a, std::span<const Sample> b);
AnswerAgreement agreement_of(std::span<const Sample> a, std::span<const RecordedStep> a_steps,
                             std::span<const Sample> b, std::span<const RecordedStep> b_steps);

}  // namespace perpend
