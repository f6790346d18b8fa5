// Renders templates for the oracle test: reads JSON lines {"template": ..., "variables": {...}} and
// prints JSON lines {"text": ...} or {"error": ...}.

#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/template/chat_template.h"

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = nlohmann::ordered_json::parse(line);
    nlohmann::json answer;
    try {
      const perpend::ChatTemplate chat_template(request["template"].get<std::string>(), "template");
      answer["text"] = chat_template.render(request["variables"]);
    } catch (const perpend::Error& error) {
      answer["error"] = error.what();
    }
    std::cout << answer.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << "\n";
  }
}
