// Encodes and decodes for the oracle test: tokenizer_tool TOKENIZER.json reads JSON lines
// {"text": ...} and prints JSON lines {"ids": [...], "text": decoded, "streamed": decoded bit by
// bit}.

#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/io/text_file.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"
#include "perpend/io/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const perpend::Tokenizer tokenizer =
      perpend::load_tokenizer_json(perpend::read_text_file(argv[1]), argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = nlohmann::json::parse(line)["text"].get<std::string>();
    const auto ids = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
    perpend::StreamingDetokenizer stream(tokenizer, false);
    std::string streamed;
    for (const std::int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    const nlohmann::json answer{
        {"ids", ids}, {"text", tokenizer.decode(ids, false)}, {"streamed", streamed}};
    std::cout << answer.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << "\n";
  }
}
