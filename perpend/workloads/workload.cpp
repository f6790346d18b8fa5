#include "perpend/workloads/workload.h"

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "perpend/workloads/workloads_json.h"

namespace perpend {
namespace {

Workload from_json(const nlohmann::json& line) {
  Bindings bindings;
  const nlohmann::json labels = line.value("labels", nlohmann::json::object());
  for (const auto& [name, label] : labels.items()) {
    bindings.set(name, parse_label(label.get<std::string>()));
  }
  const auto text = line.at("mask").get<std::string>();
  return {line.at("name"), text, parse_mask(text).bind(bindings),
          uniform_shape(line.at("B"), line.at("S"), line.at("Hq"), line.at("Hkv")), line.at("D")};
}

}  // namespace

AttentionShape uniform_shape(std::int64_t batch, std::int64_t tokens, int num_q_heads,
                             int num_kv_heads) {
  return {std::vector<SequenceShape>(static_cast<std::size_t>(batch), {tokens, tokens, 0}),
          num_q_heads, num_kv_heads};
}

std::vector<Workload> read_workloads(const std::string& set) {
  const nlohmann::json all = nlohmann::json::parse(kWorkloadsJson);
  check(all.contains(set) && all.at(set).is_array(),
        concat("workloads: the sets are gpu_bf16 and cpu (", set, ")"));
  std::vector<Workload> workloads;
  for (const auto& line : all.at(set)) workloads.push_back(from_json(line));
  return workloads;
}

}  // namespace perpend
