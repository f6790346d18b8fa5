#include "perpend/nn/linear.h"

#include <algorithm>
#include <utility>

#include "perpend/nn/dense_weight.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// By our own kernel, if this device has it and it takes these operands.
bool multiply_few_rows(const torch::Tensor& x, const torch::Tensor& weight,
                       const torch::Tensor& bias, const torch::Tensor& out, bool accumulate,
                       const Context& context) {
  const auto product = context.kernels->fused.few_rows_product;
  if (product == nullptr || !context.multiplies_few_rows) return false;
  const FewRowsProductArgs args{view_of(x), view_of(weight), view_of(out), accumulate,
                                bias.defined() ? view_of(bias) : TensorView()};
  if (!args.fits()) return false;
  product(args, context.stream);
  return true;
}

// out = x W^T + b, or out += x W^T + b, each sum in f32 and rounded once to the type of `out`, but
// for b where neither our own product nor LibTorch's adds it meanwhile.
void multiply(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
              torch::Tensor out, bool accumulate, const Context& context) {
  if (multiply_few_rows(x, weight, bias, out, accumulate, context)) return;
  const torch::Tensor columns = weight.t();
  if (bias.defined() && out.is_cuda() && !accumulate && out.scalar_type() == weight.scalar_type()) {
    at::addmm_out(out, bias, x, columns);
    return;
  }
  if (out.scalar_type() == weight.scalar_type()) {
    accumulate ? out.addmm_(x, columns) : at::mm_out(out, x, columns);
  } else if (out.is_cuda()) {
    accumulate ? at::addmm_out(out, out, x, columns, out.scalar_type())
               : at::mm_out(out, x, columns, out.scalar_type());
  } else {
    const torch::Tensor product = at::mm(x.to(out.scalar_type()), columns.to(out.scalar_type()));
    accumulate ? out.add_(product) : out.copy_(product);
  }
  if (bias.defined()) out.add_(bias);
}

}  // namespace

Linear::Linear(std::span<const WeightSource> sources, std::vector<float> bias, WeightForm form,
               const Context& context) {
  if (const auto* type = std::get_if<torch::ScalarType>(&form)) {
    const torch::Tensor weight = make_dense_weight(sources, *type, context);
    const torch::Tensor values =
        bias.empty() ? torch::Tensor() : torch::tensor(bias).to(weight.options());
    *this = Linear(weight, values);
    return;
  }
  const auto pack = require(context.kernels->quantized.pack, "linear", *context.kernels);
  Packed packed{pack(sources, std::get<LinearMode>(form), context.stream), std::move(bias), {}};
  if (!packed.bias.empty()) {
    check_eq(static_cast<std::int64_t>(packed.bias.size()), packed.weight.out_features,
             "linear: bias and out_features differ");
  }
  form_ = std::move(packed);
}

Linear::Linear(torch::Tensor weight, torch::Tensor bias) {
  check(weight.dim() == 2, concat("linear: a weight has 2 axes (", weight.dim(), ")"));
  if (bias.defined()) {
    check(bias.dim() == 1 && bias.scalar_type() == weight.scalar_type(),
          "linear: a bias has 1 axis and the type of the weight");
    check_eq(bias.size(0), weight.size(0), "linear: bias and out_features differ");
  }
  form_ = Dense{std::move(weight), std::move(bias)};
}

std::int64_t Linear::in_features() const {
  const auto* packed = std::get_if<Packed>(&form_);
  return packed != nullptr ? packed->weight.in_features : dense().weight.size(1);
}

std::int64_t Linear::out_features() const {
  const auto* packed = std::get_if<Packed>(&form_);
  return packed != nullptr ? packed->weight.out_features : dense().weight.size(0);
}

std::size_t Linear::num_bytes() const {
  const auto* packed = std::get_if<Packed>(&form_);
  return packed != nullptr ? packed->weight.num_bytes() : dense().weight.nbytes();
}

const Linear::Dense& Linear::dense() const {
  const auto* dense = std::get_if<Dense>(&form_);
  if (dense == nullptr) {
    throw Unsupported("linear: a packed weight is no tensor; load the model in f32, bf16 or f16");
  }
  return *dense;
}

const torch::Tensor& Linear::weight() const { return dense().weight; }
const torch::Tensor& Linear::bias() const { return dense().bias; }

bool Linear::is_recorded(const torch::Tensor& x) const {
  const auto* dense = std::get_if<Dense>(&form_);
  return dense != nullptr && torch::GradMode::is_enabled() &&
         (x.requires_grad() || dense->weight.requires_grad() ||
          (dense->bias.defined() && dense->bias.requires_grad()));
}

torch::Tensor Linear::forward(const torch::Tensor& x, Context& context) const {
  if (is_recorded(x)) return at::linear(x, weight(), bias());
  torch::Tensor out = context.workspace->take({x.size(0), out_features()}, x.scalar_type());
  run(x, out, false, context);
  return out;
}

torch::Tensor Linear::forward_f32(const torch::Tensor& x, Context& context) const {
  if (is_recorded(x)) return at::linear(x, weight(), bias()).to(torch::kFloat32);
  torch::Tensor out = context.workspace->take({x.size(0), out_features()});
  run(x, out, false, context);
  return out;
}

torch::Tensor Linear::forward_part(const torch::Tensor& x, Range outputs, Context& context) const {
  check(adapters_.empty(), "linear: adapters must be merged before the model is run");
  if (const auto* dense = std::get_if<Dense>(&form_)) {
    const torch::Tensor out = context.workspace->take({x.size(0), outputs.size()}, x.scalar_type());
    const torch::Tensor weight = dense->weight.narrow(0, outputs.begin, outputs.size());
    const torch::Tensor bias = dense->bias.defined()
                                   ? dense->bias.narrow(0, outputs.begin, outputs.size())
                                   : torch::Tensor();
    multiply(x, weight, bias, out, /*accumulate=*/false, context);
    return out;
  }
  // Kernels begin and end with whole panels.
  const Range panels{floor_div(outputs.begin, PackedWeight::kPanel) * PackedWeight::kPanel,
                     std::min(round_up(outputs.end, PackedWeight::kPanel), out_features())};
  const torch::Tensor out = context.workspace->take({x.size(0), panels.size()});
  run_packed(std::get<Packed>(form_), x, out, /*accumulate=*/false, panels, context);
  return out.narrow(1, outputs.begin - panels.begin, outputs.size());
}

torch::Tensor Linear::add_to(const torch::Tensor& sum, const torch::Tensor& x,
                             Context& context) const {
  if (is_recorded(x)) return sum + at::linear(x, weight(), bias());
  run(x, sum, true, context);
  return sum;
}

void Linear::run(const torch::Tensor& x, const torch::Tensor& out, bool accumulate,
                 Context& context) const {
  check(adapters_.empty(), "linear: adapters must be merged before the model is run");
  if (const auto* dense = std::get_if<Dense>(&form_)) {
    check_eq(x.scalar_type(), dense->weight.scalar_type(), "linear: types of x and W differ");
    multiply(x, dense->weight, dense->bias, out, accumulate, context);
    return;
  }
  run_packed(std::get<Packed>(form_), x, out, accumulate, {}, context);
}

void Linear::run_packed(const Packed& packed, const torch::Tensor& x, const torch::Tensor& out,
                        bool accumulate, Range outputs, Context& context) {
  LinearArgs args;
  args.x = view_of(x);
  args.weight = &packed.weight;
  args.bias = packed.bias.empty() ? nullptr : packed.bias.data();
  args.out = view_of(out);
  args.accumulate = accumulate;
  args.scratch = &context.linear_scratch;
  args.outputs = outputs;
  context.kernels->quantized.linear(args, context.stream);
}

torch::Tensor Linear::rows(const torch::Tensor& ids, Context& context) const {
  if (is_recorded(ids)) return at::embedding(weight(), ids).to(torch::kFloat32);
  torch::Tensor out = context.workspace->take({ids.size(0), in_features()});
  if (const auto* dense = std::get_if<Dense>(&form_)) {
    if (dense->weight.scalar_type() == torch::kFloat32) {
      return at::index_select_out(out, dense->weight, 0, ids);
    }
    torch::Tensor stored =
        context.workspace->take({ids.size(0), in_features()}, dense->weight.scalar_type());
    return out.copy_(at::index_select_out(stored, dense->weight, 0, ids));
  }
  const Packed& packed = std::get<Packed>(form_);
  const std::span<const std::int32_t> tokens{ids.data_ptr<std::int32_t>(),
                                             static_cast<std::size_t>(ids.size(0))};
  context.kernels->quantized.gather_rows(packed.weight, tokens, view_of(out), context.stream);
  for (const auto& [token, values] : packed.replaced_rows) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == token) out[static_cast<std::int64_t>(i)].copy_(values);
    }
  }
  return out;
}

void Linear::replace_row(const TokenRow& row) {
  check(row.token >= 0 && row.token < out_features(),
        concat("linear: there is no row ", row.token, " of ", out_features()));
  check(row.values.dim() == 1 && row.values.size(0) == in_features(),
        concat("linear: expected a row of ", in_features(), " values, found ", row.values.sizes()));
  if (auto* packed = std::get_if<Packed>(&form_)) {
    packed->replaced_rows[row.token] = row.values.to(torch::kFloat32).contiguous();
    return;
  }
  const torch::NoGradGuard no_grad;
  dense().weight[row.token].copy_(row.values);
}

}  // namespace perpend
