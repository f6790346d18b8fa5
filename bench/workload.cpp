#include "bench/workload.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "perpend/mask/bindings.h"

namespace perpend {

std::vector<Workload> read_workloads(const std::string& set) {
  std::ifstream file(PERPEND_WORKLOADS);
  const nlohmann::json all = nlohmann::json::parse(file);
  std::vector<Workload> workloads;
  for (const auto& line : all.at(set)) {
    Bindings bindings;
    const nlohmann::json labels = line.value("labels", nlohmann::json::object());
    for (const auto& [name, label] : labels.items()) {
      bindings.set(name, parse_label(label.get<std::string>()));
    }
    const std::int64_t length = line.at("S");
    AttentionShape shape;
    shape.sequences.assign(line.at("B"), {length, length, 0});
    shape.num_q_heads = line.at("Hq");
    shape.num_kv_heads = line.at("Hkv");
    workloads.push_back({line.at("name"),
                         parse_mask(line.at("mask").get<std::string>()).bind(bindings), shape,
                         line.at("D")});
  }
  return workloads;
}

}  // namespace perpend
