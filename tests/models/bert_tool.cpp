// Runs BERT for the oracle test:
//   bert run MODEL TEXTS.json     last hidden states of texts given as tokens: [[token, ...], ...]
//   bert embed MODEL TEXTS.json   {"tokens", "embedding"} of texts: ["...", ...]
//   bert load MODEL...            a list of the errors, empty where a model can be read

#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "perpend/io/text_file.h"
#include "perpend/models/bert.h"
#include "perpend/nn/runtime.h"
#include "tests/models/load_errors.h"

namespace perpend::bert_tool {
namespace {

using nlohmann::json;
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

json answer(std::span<char*> arguments) {
  const std::string_view mode = arguments[0];
  Runtime runtime(2);
  const auto load = [&](const char* path) {
    Bert(Checkpoint::open(path), LinearMode::kF32, runtime.context());
  };
  if (mode == "load") return load_errors(arguments.subspan(1), load);
  return (mode == "embed" ? embed : run)(arguments[1], arguments[2], runtime.context());
}

}  // namespace perpend::bert_tool
