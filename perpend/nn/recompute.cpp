#include "perpend/nn/recompute.h"

#include <utility>

#include <torch/autograd.h>

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SavedFunction : torch::CustomClassHolder {
  SavedFunction(RecomputedFunction function, variable_list leaves_of_function)
      : f(std::move(function)), leaves(std::move(leaves_of_function)) {}
  RecomputedFunction f;
  variable_list leaves;
};

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  // `leaves` are arguments so that their gradients leave by this node; as a TensorList, which alone
  // is looked into.
  static variable_list forward(AutogradContext* context, const torch::Tensor& x,
                               at::TensorList /*leaves*/,
                               const c10::intrusive_ptr<SavedFunction>& saved) {
    context->save_for_backward({x});
    context->saved_data["function"] = c10::IValue::make_capsule(saved);
    context->set_materialize_grads(false);
    return saved->f(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const auto capsule = context->saved_data["function"].toCapsule();
    const auto& saved = *static_cast<SavedFunction*>(capsule.get());
    const torch::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const at::AutoGradMode recording(true);
    const variable_list outputs = saved.f(x);
    variable_list used;
    variable_list grads;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!grad_outputs[i].defined()) continue;
      used.push_back(outputs[i]);
      grads.push_back(grad_outputs[i]);
    }
    variable_list inputs = {x};
    inputs.insert(inputs.end(), saved.leaves.begin(), saved.leaves.end());
    variable_list result = torch::autograd::grad(used, inputs, grads, /*retain_graph=*/{},
                                                 /*create_graph=*/false, /*allow_unused=*/true);
    result.emplace_back();  // of the function itself
    return result;
  }
};

}  // namespace

std::vector<torch::Tensor> recomputed(const RecomputedFunction& f, const torch::Tensor& x,
                                      const std::vector<torch::Tensor>& leaves) {
  if (!at::GradMode::is_enabled()) return f(x);
  return RecomputeFunction::apply(x, at::TensorList(leaves),
                                  c10::make_intrusive<SavedFunction>(f, leaves));
}

}  // namespace perpend
