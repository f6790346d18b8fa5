// Runs BERT for the oracle test:
//   bert_tool run MODEL TEXTS.json      last hidden states of texts given as tokens: [[token, ...],
//   ...] bert_tool embed MODEL TEXTS.json    {"tokens", "embedding"} of texts: ["...", ...]
//   bert_tool load MODEL...             a list of the errors, empty where a model can be read

#include <iostream>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "perpend/io/text_file.h"
#include "perpend/models/bert.h"
#include "perpend/nn/runtime.h"
#include "tests/models/load_errors.h"

namespace {

using nlohmann::json;
using namespace perpend;
using Tokens = std::vector<std::int32_t>;

json rows_of(const torch::Tensor& matrix) {
  json rows = json::array();
  for (std::int64_t row = 0; row < matrix.size(0); ++row) {
    const float* first = matrix.data_ptr<float>() + row * matrix.size(1);
    rows.push_back(std::vector<float>(first, first + matrix.size(1)));
  }
  return rows;
}

json run(const char* path, const char* texts_path, Context& context) {
  const Bert bert(Checkpoint::open(path), LinearMode::kF32, context);
  Tokens tokens;
  Tokens indptr = {0};
  for (const json& text : json::parse(read_text_file(texts_path))) {
    const auto more = text.get<Tokens>();
    tokens.insert(tokens.end(), more.begin(), more.end());
    indptr.push_back(static_cast<std::int32_t>(tokens.size()));
  }
  return rows_of(bert.forward(tokens, indptr, context));
}

json embed(const char* path, const char* texts_path, Context& context) {
  const TextEmbedder embedder(path, context);
  const auto texts = json::parse(read_text_file(texts_path)).get<std::vector<std::string>>();
  const json embeddings = rows_of(embedder.embed(texts, context));
  json results = json::array();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    results.push_back({{"tokens", embedder.tokens_of(texts[i])}, {"embedding", embeddings[i]}});
  }
  return results;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span arguments(argv, static_cast<std::size_t>(argc));
  if (argc < 3) return 2;
  try {
    const std::string_view mode = arguments[1];
    Runtime runtime(2);
    const auto load = [&](const char* path) {
      Bert(Checkpoint::open(path), LinearMode::kF32, runtime.context());
    };
    std::cout << (mode == "load"    ? load_errors(arguments.subspan(2), load)
                  : mode == "embed" ? embed(arguments[2], arguments[3], runtime.context())
                                    : run(arguments[2], arguments[3], runtime.context()))
              << "\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
