#include "perpend/models/language_model.h"

#include "perpend/core/error.h"

namespace perpend {
namespace {

[[noreturn]] void refuse(const LanguageModel& model) {
  throw Unsupported(concat("model: passes of ", model.config().architecture,
                           " can not be captured; run them one by one"));
}

}  // namespace

void LanguageModel::prepare(const ForwardInput& /*input*/) const { refuse(*this); }

torch::Tensor LanguageModel::run(const ForwardPass& /*pass*/, const LogitVisitor* /*visit*/,
                                 Context& /*context*/) const {
  refuse(*this);
}

}  // namespace perpend
