#include <iostream>
#include <map>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/options.h"
#include "perpend/cli/report.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/loaded_model.h"

namespace perpend {
namespace {

using nlohmann::json;

json config_facts(const ModelConfig& config) {
  json result{{"architecture", config.architecture},
              {"vocab_size", config.vocab_size},
              {"model_dim", config.model_dim},
              {"ffn_dim", config.ffn_dim},
              {"num_layers", config.num_layers},
              {"num_q_heads", config.num_q_heads},
              {"num_kv_heads", config.num_kv_heads},
              {"head_dim", config.head_dim},
              {"context_length", config.context_length},
              {"rope_theta", config.rotary.theta},
              {"tied_embeddings", config.tied_embeddings}};
  if (config.longgen) result["longgen"] = concat(*config.longgen);
  if (config.diffusion) result["diffusion"] = diffusion_json(*config.diffusion);
  return result;
}

json tensor_facts(const Checkpoint& checkpoint) {
  auto list = json::array();
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    list.push_back({{"name", tensor.name},
                    {"format", name_of(tensor.format)},
                    {"shape", tensor.shape},
                    {"bytes", tensor.bytes.size()}});
  }
  return list;
}

json facts(const std::string& path) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  json result{{"path", path},
              {"kind", checkpoint.kind() == Checkpoint::Kind::kGguf ? "gguf" : "hugging face"}};
  result["config"] = config_facts(read_model_config(checkpoint));
  result["tensors"] = tensor_facts(checkpoint);
  std::int64_t parameters = 0;
  std::map<std::string, std::int64_t> format_bytes;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    std::int64_t count = 1;
    for (std::int64_t size : tensor.shape) count *= size;
    parameters += count;
    format_bytes[std::string(name_of(tensor.format))] +=
        static_cast<std::int64_t>(tensor.bytes.size());
  }
  result["parameters"] = parameters;
  result["format_bytes"] = format_bytes;
  const auto tokenizer = read_tokenizer(checkpoint);
  const auto stop_tokens = read_stop_tokens(checkpoint, *tokenizer);
  auto stops = json::array();
  for (std::int32_t token : stop_tokens) {
    stops.push_back({{"id", token}, {"token", tokenizer->id_to_token(token)}});
  }
  result["tokenizer"] = {{"vocab_size", tokenizer->vocab_size()}, {"stop_tokens", stops}};
  result["chat_template"] = read_chat_template(checkpoint) != nullptr;
  return result;
}

void print_table(const json& result, bool all_tensors) {
  const auto line = [](std::string_view name, const std::string& value) {
    fmt::print("{:<18} {}\n", name, value);
  };
  line("path", result["path"]);
  line("kind", result["kind"]);
  for (const auto& [key, value] : result["config"].items()) {
    line(key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  line("parameters", fmt::format("{:.1f} M", result["parameters"].get<double>() / 1e6));
  for (const auto& [format, size] : result["format_bytes"].items()) {
    line("weights in " + format, bytes_text(size.get<std::int64_t>()));
  }
  line("tokens", result["tokenizer"]["vocab_size"].dump());
  for (const json& stop : result["tokenizer"]["stop_tokens"]) {
    line("stop token",
         fmt::format("{} {}", stop["id"].get<int>(), stop["token"].get<std::string>()));
  }
  line("chat template", result["chat_template"].get<bool>() ? "yes" : "no");
  line("tensors",
       fmt::format("{}{}", result["tensors"].size(), all_tensors ? "" : " (--tensors lists them)"));
  if (!all_tensors) return;
  for (const json& tensor : result["tensors"]) {
    fmt::print("  {:<40} {:<5} {:<16} {}\n", tensor["name"].get<std::string>(),
               tensor["format"].get<std::string>(), tensor["shape"].dump(),
               bytes_text(tensor["bytes"].get<std::int64_t>()));
  }
}

struct InspectCommand {
  std::string model = "smollm2-135m-instruct";
  bool tensors = false;
  bool json_output = false;

  void run() const {
    const json result = facts(resolve_model_path(model));
    if (json_output) {
      std::cout << result.dump(2, ' ', false, json::error_handler_t::replace) << std::endl;
    } else {
      print_table(result, tensors);
    }
  }
};

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App& sub = *app.add_subcommand("inspect", "What is in a model file");
  sub.add_option("model", command->model,
                 "Name of a fetched model, a .gguf file or a Hugging Face folder")
      ->envname(environment_name("--model"))
      ->capture_default_str();
  add_flag(sub, "--tensors", command->tensors, "List every tensor");
  add_flag(sub, "--json", command->json_output, "Print one JSON object");
  sub.footer("Examples:\n  perpend inspect\n  perpend inspect ./model.gguf --tensors");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
