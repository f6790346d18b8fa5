#include "perpend/cli/workload.h"

#include <nlohmann/json.hpp>

#include "perpend/cli/workloads_json.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

Workload from_json(const nlohmann::json& object) {
  Workload workload{.name = object.at("name"),
                    .mask = object.at("mask"),
                    .bindings = {},
                    .batch = object.at("B"),
                    .num_q_heads = object.at("Hq"),
                    .num_kv_heads = object.at("Hkv"),
                    .tokens = object.at("S"),
                    .head_dim = object.at("D")};
  const nlohmann::json labels = object.value("labels", nlohmann::json::object());
  for (const auto& [name, label] : labels.items()) {
    if (!workload.bindings.empty()) workload.bindings += "; ";
    workload.bindings += name + " = " + label.get<std::string>();
  }
  return workload;
}

}  // namespace

AttentionShape Workload::shape() const {
  const SequenceShape sequence{tokens, tokens, 0};
  return {std::vector<SequenceShape>(static_cast<std::size_t>(batch), sequence), num_q_heads,
          num_kv_heads};
}

Mask Workload::bound_mask() const { return parse_mask(mask).bind(parse_bindings(bindings)); }

AttentionCase Workload::attention_case(DType dtype) const {
  AttentionCase c;
  c.shape = shape();
  c.masks = {bound_mask()};
  c.head_dim = head_dim;
  c.q_dtype = c.kv_dtype = dtype;
  c.layout.head_major = true;
  c.d_lse = false;
  c.scratch = true;
  return c;
}

std::vector<Workload> standard_workloads(std::string_view set) {
  check(set == "cpu" || set == "gpu", concat("bench: --set must be cpu or gpu (", set, ")"));
  const nlohmann::json all = nlohmann::json::parse(kWorkloadsJson);
  std::vector<Workload> workloads;
  for (const auto& object : all.at(set == "cpu" ? "cpu" : "gpu_bf16")) {
    workloads.push_back(from_json(object));
  }
  return workloads;
}

}  // namespace perpend
