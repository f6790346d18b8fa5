#include "perpend/nn/adapted_linear.h"

#include <utility>

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/autograd.h>

#include "perpend/nn/optional_tensor.h"
#include "perpend/nn/product_over_rows.h"

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Where each adapter stands: its outputs, and its ranks among those of all.
struct AdapterPlaces : torch::CustomClassHolder {
  explicit AdapterPlaces(const std::vector<LoraAdapter>& adapters) {
    for (const LoraAdapter& adapter : adapters) {
      places.push_back({.first_output = adapter.first_output,
                        .num_outputs = adapter.up.size(0),
                        .first_rank = num_ranks,
                        .num_ranks = adapter.down.size(0),
                        .scale = adapter.scale});
      num_ranks += adapter.down.size(0);
    }
  }

  struct Place {
    std::int64_t first_output, num_outputs, first_rank, num_ranks;
    double scale;

    torch::Tensor outputs_of(const torch::Tensor& y) const {
      return y.narrow(1, first_output, num_outputs);
    }
    torch::Tensor ranks_of(const torch::Tensor& t) const {
      return t.narrow(1, first_rank, num_ranks);
    }
  };
  std::vector<Place> places;
  std::int64_t num_ranks = 0;
};

class AdaptedLinearFunction : public torch::autograd::Function<AdaptedLinearFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias, at::TensorList downs,
                               at::TensorList ups,
                               const c10::intrusive_ptr<AdapterPlaces>& adapters) {
    const torch::Tensor down = at::cat(downs);        // [ranks, in_features]
    const torch::Tensor inner = at::linear(x, down);  // [rows, ranks]
    const torch::Tensor y = at::linear(x, weight, bias);
    for (std::size_t i = 0; i < ups.size(); ++i) {
      const AdapterPlaces::Place& place = adapters->places[i];
      place.outputs_of(y).addmm_(place.ranks_of(inner), ups[i].t(), 1, place.scale);
    }
    variable_list saved = {x, weight, down, inner};
    saved.insert(saved.end(), ups.begin(), ups.end());
    context->save_for_backward(saved);
    context->saved_data["adapters"] = c10::IValue::make_capsule(adapters);
    context->saved_data["wants_x"] = x.requires_grad();
    context->saved_data["wants_weight"] = weight.requires_grad();
    context->saved_data["wants_bias"] = bias.has_value() && bias->requires_grad();
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor& dy = grad_outputs[0];
    const torch::Tensor& x = saved[0];
    const torch::Tensor& weight = saved[1];
    const torch::Tensor& down = saved[2];
    const torch::Tensor& inner = saved[3];
    const auto capsule = context->saved_data["adapters"].toCapsule();
    const auto& adapters = *static_cast<AdapterPlaces*>(capsule.get());
    const torch::Tensor d_inner = at::empty(inner.sizes(), inner.options());
    variable_list d_ups;
    for (std::size_t i = 0; i < adapters.places.size(); ++i) {
      const AdapterPlaces::Place& place = adapters.places[i];
      const torch::Tensor part = place.outputs_of(dy);
      torch::Tensor d_ranks = place.ranks_of(d_inner);
      at::addmm_out(d_ranks, d_ranks, part, saved[4 + i], 0, place.scale);
      d_ups.push_back(product_over_rows(part, place.ranks_of(inner)).mul_(place.scale));
    }
    variable_list grads(3);
    if (context->saved_data["wants_x"].toBool()) {
      grads[0] = at::mm(dy, weight).addmm_(d_inner, down);
    }
    if (context->saved_data["wants_weight"].toBool()) grads[1] = at::mm(dy.t(), x);
    if (context->saved_data["wants_bias"].toBool()) grads[2] = dy.sum(0);
    const torch::Tensor d_down = product_over_rows(d_inner, x);
    for (const AdapterPlaces::Place& place : adapters.places) {
      grads.push_back(d_down.narrow(0, place.first_rank, place.num_ranks));
    }
    grads.insert(grads.end(), d_ups.begin(), d_ups.end());
    grads.emplace_back();  // of the places
    return grads;
  }
};

}  // namespace

torch::Tensor adapted_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias, const std::vector<LoraAdapter>& adapters) {
  variable_list downs;
  variable_list ups;
  for (const LoraAdapter& adapter : adapters) {
    downs.push_back(adapter.down);
    ups.push_back(adapter.up);
  }
  return AdaptedLinearFunction::apply(x, weight, given(bias), at::TensorList(downs),
                                      at::TensorList(ups),
                                      c10::make_intrusive<AdapterPlaces>(adapters));
}

}  // namespace perpend
