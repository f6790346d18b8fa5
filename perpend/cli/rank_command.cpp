#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "perpend/cli/commands.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/prompt_source.h"
#include "perpend/cli/rank_explanation.h"
#include "perpend/io/home_folder.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/rank/bm25.h"
#include "perpend/rank/debian_packages.h"
#include "perpend/rank/document_reader.h"
#include "perpend/rank/heat_picture.h"
#include "perpend/rank/ranker.h"

namespace perpend {
namespace {

// What is ranked, and what is shown beside an id.
struct DocumentList {
  std::vector<RankDocument> documents;
  std::vector<std::string> captions;
};

DocumentList read_debian() {
  const auto path = home_folder() / "debian" / "packages.jsonl";
  const auto say = [] {
    std::cerr << "perpend: fetching the descriptions of Debian's packages (16 MB) by apt-get\n";
  };
  DocumentList list;
  for (DebianPackage& package : debian_packages(path.string(), say)) {
    list.captions.push_back(std::move(package.synopsis));
    list.documents.push_back({.id = std::move(package.name), .text = package.description});
  }
  return list;
}

DocumentList read_list(const std::string& source) {
  if (source == "debian") return read_debian();
  DocumentList list;
  std::error_code error;
  if (source == "-") {
    list.documents = read_document_lines(read_standard_input("documents"), "standard input");
  } else if (std::filesystem::is_directory(source, error)) {
    list.documents = read_document_folder(source);
  } else {
    list.documents = read_document_lines(read_text_file(source), source);
  }
  for (const RankDocument& document : list.documents) {
    const std::string& text = document.title.empty() ? document.text : document.title;
    list.captions.push_back(text.substr(0, text.find('\n')));
  }
  check(!list.documents.empty(), concat("rank: ", source, " has no document"));
  return list;
}

// The documents of `list` that BM25 puts first, in its order.
DocumentList shortlisted(const DocumentList& list, const std::string& query, std::size_t count) {
  std::vector<std::string> texts;
  for (const RankDocument& document : list.documents) {
    texts.push_back(concat(document.id, " ", document.title, " ", document.text));
  }
  DocumentList shorter;
  for (const std::size_t index : Bm25(texts).best(query, count)) {
    shorter.documents.push_back(list.documents[index]);
    shorter.captions.push_back(list.captions[index]);
  }
  check(!shorter.documents.empty(), "rank: no document has a word of the query");
  return shorter;
}

// At most `width` characters, cut where one begins.
std::string shortened(const std::string& text, std::size_t width) {
  if (text.size() <= width) return text;
  std::size_t end = width - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "...";
}

struct RankCommand {
  ModelOptions model;
  std::string query;
  std::string docs;
  std::size_t top = 10;
  std::size_t shortlist = 0;
  std::int64_t limit = 0;
  bool cut = false;
  bool reusable = false;
  bool explain = false;
  std::string picture = "rank.png";
  bool json = false;

  void run();
  void report(const DocumentList& list, const RankResult& result, double seconds) const;
  void print(const DocumentList& list, const RankResult& result, const Tokenizer& tokenizer) const;
  void draw(const RankResult& result) const;
  RankOptions options(const ModelSession& session) const;
  std::size_t num_shown(const RankResult& result) const {
    return top == 0 ? result.order.size() : std::min(top, result.order.size());
  }
};

RankOptions RankCommand::options(const ModelSession& session) const {
  RankOptions options;
  options.config = read_blockrank_config(session.model.checkpoint(), session.model.config());
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
  for (std::size_t place = 0; place < num_shown(result); ++place) {
    for (const float weight : result.weights[result.order[place]]) {
      heaviest = std::max(heaviest, weight);
    }
  }
  for (std::size_t place = 0; place < num_shown(result); ++place) {
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
  for (std::size_t place = 0; place < num_shown(result); ++place) {
    rows.push_back(result.weights[result.order[place]]);
  }
  write_heat(rows, picture);
  fmt::print(stderr, "perpend: {} shows what each token of the first {} documents carried\n",
             picture, rows.size());
}

void RankCommand::run() {
  check(!query.empty(), "rank: the query is empty");
  check(limit >= 0, concat("rank: --limit must not be negative (", limit, ")"));
  DocumentList list = read_list(docs);
  const std::size_t most = shortlist == 0 && docs == "debian" ? 100 : shortlist;
  if (most > 0) list = shortlisted(list, query, most);
  ModelSession session(model);
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
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (std::size_t place = 0; place < num_shown(result); ++place) {
      const std::size_t index = result.order[place];
      results.push_back({{"id", list.documents[index].id}, {"score", result.scores[index]}});
    }
    std::cout << json_line({{"results", results}}, "rank") << std::endl;
  } else {
    print(list, result, session.model.tokenizer());
  }
  report(list, result, took.count());
}

}  // namespace

void add_rank_command(CLI::App& app) {
  auto command = std::make_shared<RankCommand>();
  CLI::App& sub = *app.add_subcommand("rank", "Order documents by how well they answer a query");
  add_option(sub, "--query", command->query, "What is looked for")->required();
  add_option(sub, "--docs", command->docs,
             "JSONL file (keys id and text, perhaps title), folder of texts, - for JSONL on "
             "standard input, or debian: all packages that apt knows of")
      ->required();
  add_option(sub, "--top", command->top, "How many are shown; 0: all");
  add_option(sub, "--shortlist", command->shortlist,
             "Rank only the best K of BM25; 0: all documents, 100 of debian");
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
  sub.footer(
      "Examples:\n"
      "  perpend rank --query \"play chess in the terminal\" --docs debian\n"
      "  perpend rank --query \"how to reset the password\" --docs answers.jsonl --top 3 "
      "--explain\n"
      "  perpend rank --query \"tax 2025\" --docs notes/ --cut --json");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
