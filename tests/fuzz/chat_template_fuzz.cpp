#include <nlohmann/json.hpp>

#include "perpend/io/template/chat_template.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

nlohmann::ordered_json conversation() {
  return nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "system", "content": "Be brief."},
                 {"role": "user", "content": "  Hi\n"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, true]}}}]},
                 {"role": "user", "content": [{"type": "text", "text": "wörld"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perpend;
  static const nlohmann::ordered_json variables = conversation();
  return refuse_or_use(
      [&] { ChatTemplate(std::string(text_of(data, size)), "template").render(variables); });
}
