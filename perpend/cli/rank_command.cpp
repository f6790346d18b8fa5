#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <numeric>
#include <optional>
#include <span>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "perpend/cli/commands.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/rank_documents.h"
#include "perpend/cli/rank_explanation.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/rank/document_reader.h"
#include "perpend/rank/embedding_ranker.h"
#include "perpend/rank/heat_picture.h"
#include "perpend/rank/ranker.h"

namespace perpend {
namespace {

constexpr const char* kShippedRanker = "debian-ranker";

// At most `width` characters, cut where one begins.
std::string shortened(const std::string& text, std::size_t width) {
  if (text.size() <= width) return text;
  std::size_t end = width - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "...";
}

// Scores of the documents for one query, higher ones first in a ranking.
using Scorer =
    std::function<std::vector<float>(const std::string& query, const DocumentList& list)>;

struct RankCommand {
  ModelOptions model;
  const CLI::Option* model_option = nullptr;
  std::string query;
  std::string queries;
  std::string docs;
  std::size_t top = 10;
  std::size_t shortlist = 0;
  std::int64_t limit = 0;
  bool bm25 = false;
  bool cut = false;
  bool reusable = false;
  bool explain = false;
  std::string picture = "rank.png";
  bool json = false;

  void check_options() const;
  void run();
  void rank_one(const DocumentList& list);
  // The queries of a file; without a scorer in the order of the first stage.
  void rank_many(const DocumentList& list, const Scorer& scorer) const;
  void rank_many(const DocumentList& list);
  void report(const DocumentList& list, const RankResult& result, double seconds) const;
  void print(const DocumentList& list, const RankResult& result, const Tokenizer& tokenizer) const;
  void draw(const RankResult& result) const;
  RankOptions options(const ModelSession& session) const;
  std::size_t num_shown(std::size_t count) const { return top == 0 ? count : std::min(top, count); }
  // Of BM25; 0: no first stage.
  std::size_t num_listed() const {
    constexpr std::size_t kUsual = 100;
    if (shortlist > 0) return shortlist;
    return docs == "debian" || bm25 ? kUsual : 0;
  }
};

RankOptions RankCommand::options(const ModelSession& session) const {
  RankOptions options;
  options.config = blockrank_config(session.model.config());
  if (limit > 0) options.config.chunk_len = limit;
  options.kv_dtype = session.kv_dtype;
  options.query_in_instruction = !reusable;
  // Nobody can shorten the descriptions of Debian before.
  if (cut || docs == "debian") options.long_documents = LongDocuments::kCut;
  return options;
}

void RankCommand::report(const DocumentList& list, const RankResult& result, double seconds) const {
  if (!result.cut.empty()) {
    std::string names;
    for (const std::size_t index : result.cut) {
      names += (names.empty() ? "" : ", ") + list.documents[index].id;
    }
    fmt::print(stderr, "perpend: cut to the limit of a document: {}\n", names);
  }
  fmt::print(stderr, "[{} documents, {} tokens, ranked in {:.2f} s, {:.0f} tokens/s]\n",
             result.scores.size(), result.num_tokens, seconds,
             static_cast<double>(result.num_tokens) / seconds);
}

void RankCommand::print(const DocumentList& list, const RankResult& result,
                        const Tokenizer& tokenizer) const {
  const bool colours = isatty(STDOUT_FILENO) == 1;
  float heaviest = 0;
  for (std::size_t place = 0; place < num_shown(result.order.size()); ++place) {
    for (const float weight : result.weights[result.order[place]]) {
      heaviest = std::max(heaviest, weight);
    }
  }
  for (std::size_t place = 0; place < num_shown(result.order.size()); ++place) {
    const std::size_t index = result.order[place];
    fmt::print("{:>3}  {:.5f}  {:<28} {}\n", place + 1, result.scores[index],
               list.documents[index].id, shortened(list.captions[index], 76));
    if (!explain) continue;
    const std::span tokens = result.tokens[index];
    const std::span weights = result.weights[index];
    fmt::print("     {}\n", heaviest_tokens(tokenizer, tokens, weights));
    if (colours) fmt::print("     {}\n", shaded_text(tokenizer, tokens, weights, heaviest));
  }
}

void RankCommand::draw(const RankResult& result) const {
  std::vector<std::vector<float>> rows;
  for (std::size_t place = 0; place < num_shown(result.order.size()); ++place) {
    rows.push_back(result.weights[result.order[place]]);
  }
  write_heat(rows, picture);
  fmt::print(stderr, "perpend: {} shows what each token of the first {} documents carried\n",
             picture, rows.size());
}

// The best of a ranking, `order[i]` being the place in `list` of the one that is i-th.
nlohmann::ordered_json results_of(const DocumentList& list, std::span<const std::size_t> order,
                                  std::span<const float> scores) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const std::size_t index : order) {
    results.push_back({{"id", list.documents[index].id}, {"score", scores[index]}});
  }
  return results;
}

void RankCommand::rank_one(const DocumentList& list) {
  ModelSession session(model, /*ranks_only=*/true);
  Ranker ranker(session.model, session.runtime.context(), options(session));
  const auto start = std::chrono::steady_clock::now();
  std::optional<ProgressBar> progress;
  const RankResult result =
      ranker.rank(query, list.documents, [&](std::int64_t done, std::int64_t total) {
        if (!progress) progress.emplace("ranking, layers", total);
        progress->update(done);
      });
  progress.reset();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (explain) draw(result);
  if (json) {
    const std::span shown(result.order.data(), num_shown(result.order.size()));
    std::cout << json_line({{"results", results_of(list, shown, result.scores)}}, "rank")
              << std::endl;
  } else {
    print(list, result, session.model.tokenizer());
  }
  report(list, result, took.count());
}

std::vector<std::size_t> order_of(std::span<const float> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

void RankCommand::rank_many(const DocumentList& list, const Scorer& scorer) const {
  const std::vector<RankDocument> lines = read_document_lines(read_text_file(queries), queries);
  check(!lines.empty(), concat("rank: ", queries, " has no query"));
  std::optional<FirstStage> first_stage;
  if (num_listed() > 0) first_stage.emplace(list);
  ProgressBar progress("queries", std::ssize(lines));
  std::int64_t num_done = 0;
  for (const RankDocument& line : lines) {
    FirstStage::Found found;
    if (first_stage) found = first_stage->best(line.text, num_listed());
    const DocumentList& ranked = first_stage ? found.list : list;
    std::vector<float> scores = std::move(found.scores);
    if (scorer && !ranked.documents.empty()) scores = scorer(line.text, ranked);
    std::vector<std::size_t> order = order_of(scores);
    order.resize(num_shown(order.size()));
    std::cout << json_line({{"query", line.id}, {"results", results_of(ranked, order, scores)}},
                           "rank")
              << std::endl;
    progress.update(++num_done);
  }
}

void RankCommand::rank_many(const DocumentList& list) {
  if (bm25) return rank_many(list, Scorer());
  const std::string path = model.place().path;
  if (EmbeddingRanker::takes(path)) {
    check(model.chosen_device().type == DeviceType::kCpu,
          "rank: sentence encoders run on a CPU: --device cpu");
    Runtime runtime(model.threads);
    EmbeddingRanker ranker(path, runtime.context());
    return rank_many(list, [&](const std::string& text, const DocumentList& ranked) {
      return ranker.scores(text, ranked.documents);
    });
  }
  ModelSession session(model, /*ranks_only=*/true);
  Ranker ranker(session.model, session.runtime.context(), options(session));
  rank_many(list, [&](const std::string& text, const DocumentList& ranked) {
    return ranker.rank(text, ranked.documents).scores;
  });
}

void RankCommand::check_options() const {
  check(query.empty() != queries.empty(),
        "rank: give either --query, which must not be empty, or --queries");
  check(limit >= 0, concat("rank: --limit must not be negative (", limit, ")"));
  check(queries.empty() || !explain, "rank: --explain needs one --query");
  check(!bm25 || !queries.empty(), "rank: --bm25 needs --queries");
}

void RankCommand::run() {
  check_options();
  if (model_option->empty() && model.adapter.empty() && !bm25) {
    model.model = kShippedRanker;
  }
  DocumentList list = read_documents(docs);
  if (queries.empty() && num_listed() > 0) {
    list = FirstStage(list).best(query, num_listed()).list;
    check(!list.documents.empty(), "rank: no document has a word of the query");
  }
  queries.empty() ? rank_one(list) : rank_many(list);
}

}  // namespace

void add_rank_command(CLI::App& app) {
  auto command = std::make_shared<RankCommand>();
  CLI::App& sub = *app.add_subcommand("rank", "Order documents by how well they answer a query");
  add_option(sub, "--query", command->query, "What is looked for");
  add_option(sub, "--queries", command->queries,
             "JSONL file of many queries (keys id and text); prints one JSON object for each. "
             "--model may be a sentence encoder (BERT) then");
  add_option(sub, "--docs", command->docs,
             "JSONL file (keys id and text, perhaps title), folder of texts, - for JSONL on "
             "standard input, or debian: all packages that apt knows of")
      ->required();
  add_option(sub, "--top", command->top, "How many are shown; 0: all");
  add_option(sub, "--shortlist", command->shortlist,
             "Rank only the best K of BM25; 0: all documents, 100 of debian");
  add_flag(sub, "--bm25", command->bm25,
           "Of --queries: the shortlist as BM25 has it, without a model");
  add_option(sub, "--limit", command->limit,
             "Tokens of a document, at most; 0: what the model is made for");
  add_flag(sub, "--cut", command->cut, "Cut longer documents instead of refusing them");
  add_flag(sub, "--query-last", command->reusable,
           "Show the query behind the documents only, not before them too");
  add_flag(sub, "--explain", command->explain,
           "Show which tokens carried the scores, and draw them");
  add_option(sub, "--picture", command->picture, "Where --explain draws: a .png or .svg file");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  command->model.add_without_masks_to(sub);
  sub.description(
      "Order documents by how well they answer a query; without --model by the ranker that comes "
      "with perpend, which was trained on descriptions of software");
  sub.footer(
      "Examples:\n"
      "  perpend rank --query \"play chess in the terminal\" --docs debian\n"
      "  perpend rank --query \"how to reset the password\" --docs answers.jsonl --top 3 "
      "--explain\n"
      "  perpend rank --query \"tax 2025\" --docs notes/ --cut --json\n"
      "  perpend rank --queries queries.jsonl --docs answers.jsonl --shortlist 100 > run.jsonl");
  command->model_option = sub.get_option("--model");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
