// Encodes and decodes for the oracle test: tokenizer_tool FILE, a tokenizer.json, a
// .gguf or a tokenizer.model, reads
// JSON lines {"text": ..., "special": whether to add BOS and the like} and prints JSON lines
// {"ids": [...], "offsets": [[begin, end], ...], "text": decoded, "streamed": decoded bit by bit}.

#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/gguf.h"
#include "perpend/io/text_file.h"
#include "perpend/io/tokenizer/sentencepiece_model.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace {

using namespace perpend;
using nlohmann::json;

Tokenizer load(const std::string& path) {
  if (path.ends_with(".gguf")) return load_gguf_tokenizer(GgufFile::open(path));
  if (path.ends_with(".model")) {
    const std::string bytes = read_text_file(path);
    return SentencePieceModel(std::as_bytes(std::span(bytes)), path).tokenizer(true, false);
  }
  return load_tokenizer_json(read_text_file(path), path);
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  StreamingDetokenizer stream(tokenizer, false);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

json answer(const Tokenizer& tokenizer, const json& question) {
  const auto text = question["text"].get<std::string>();
  const EncodeOptions options{.add_special_tokens = question["special"].get<bool>(),
                              .parse_special = true};
  const Encoding encoding = tokenizer.encode_with_offsets(text, options);
  if (tokenizer.encode(text, options) != encoding.ids) bug("offsets change the ids");
  json offsets = json::array();
  for (const CharacterRange& range : encoding.offsets) offsets.push_back({range.begin, range.end});
  return {{"ids", encoding.ids},
          {"offsets", offsets},
          {"text", tokenizer.decode(encoding.ids, false)},
          {"streamed", streamed(tokenizer, encoding.ids)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const Tokenizer tokenizer = load(argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer(tokenizer, json::parse(line)).dump(-1, ' ', true) << "\n";
  }
}
