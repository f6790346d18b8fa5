// What oracle tests run of models, in one program, since each would take as long to build:
//   oracle_tool TOOL ARGUMENT...   prints the tool's answer
// The sources of the tools, <folder>/<TOOL>_tool.cpp, say what they can be asked.

#include <functional>
#include <iostream>
#include <map>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

namespace perpend::bert_tool {
nlohmann::json answer(std::span<char*> arguments);
}
namespace perpend::llama_tool {
nlohmann::json answer(std::span<char*> arguments);
}
namespace perpend::rank_tool {
nlohmann::json answer(std::span<char*> arguments);
}
namespace perpend::train_tool {
nlohmann::json answer(std::span<char*> arguments);
}

int main(int argc, char** argv) {
  using Answer = std::function<nlohmann::json(std::span<char*>)>;
  const std::map<std::string_view, Answer> tools = {{"bert", perpend::bert_tool::answer},
                                                    {"llama", perpend::llama_tool::answer},
                                                    {"rank", perpend::rank_tool::answer},
                                                    {"train", perpend::train_tool::answer}};
  const std::span arguments(argv, static_cast<std::size_t>(argc));
  if (argc < 4 || !tools.contains(arguments[1])) return 2;
  try {
    std::cout << tools.at(arguments[1])(arguments.subspan(2)) << "\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
