#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/commands.h"
#include "perpend/cli/options.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/rank_documents.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/models/loaded_model.h"
#include "perpend/rank/prompt_list.h"
#include "perpend/train/rank_sequence.h"
#include "perpend/train/sequence_folder.h"

namespace perpend {
namespace {

struct RankPromptsCommand {
  std::string lines;
  std::string out;
  std::string docs;
  std::string model = "smollm2-135m-instruct";
  std::int64_t limit = 0;
  std::int64_t query_position = 0;
  bool reusable = false;
  bool json = false;

  void run() const;
  BlockRankConfig config_of(const Checkpoint& checkpoint) const;
};

// The tokens of documents, made once however many prompts they are in.
class DocumentTokens {
 public:
  DocumentTokens(const RankPrompter& prompter, const DocumentList& list, std::int64_t limit)
      : prompter_(prompter), list_(list), limit_(limit), tokens_(list.documents.size()) {}

  const std::vector<std::int32_t>& of(std::size_t index) {
    std::vector<std::int32_t>& tokens = tokens_[index];
    if (tokens.empty()) tokens = prompter_.document(list_.documents[index], limit_).tokens;
    return tokens;
  }

 private:
  const RankPrompter& prompter_;
  const DocumentList& list_;
  std::int64_t limit_;
  std::vector<std::vector<std::int32_t>> tokens_;
};

BlockRankConfig RankPromptsCommand::config_of(const Checkpoint& checkpoint) const {
  BlockRankConfig config = blockrank_config(read_model_config(checkpoint));
  check(limit >= 0 && query_position >= 0,
        concat("rank-prompts: --limit and --query-position must not be negative (", limit, ", ",
               query_position, ")"));
  if (limit > 0) config.chunk_len = limit;
  if (query_position > 0) config.query_pos_offset = query_position;
  return config;
}

void RankPromptsCommand::run() const {
  const DocumentList list = read_documents(docs);
  const std::vector<PromptLine> prompts =
      read_prompt_lines(read_text_file(lines), lines, list.documents);
  const Checkpoint checkpoint = Checkpoint::open(resolve_model_path(model));
  const BlockRankConfig config = config_of(checkpoint);
  const auto tokenizer = read_tokenizer(checkpoint);
  const auto chat_template = read_chat_template(checkpoint);
  const RankPrompter prompter(*tokenizer, chat_frame_of(chat_template.get(), *tokenizer));
  const auto end = read_special_token_ids(checkpoint, *tokenizer).eos;
  DocumentTokens documents(prompter, list, config.chunk_len);
  std::vector<TrainingSequence> sequences;
  std::int64_t num_tokens = 0;
  ProgressBar progress("prompts", std::ssize(prompts));
  for (const PromptLine& line : prompts) {
    RankPrompt prompt{.instruction = prompter.instruction(line.query, !reusable),
                      .documents = {},
                      .query = prompter.query(line.query)};
    for (const std::size_t index : line.documents) prompt.documents.push_back(documents.of(index));
    std::vector<std::string> ids;
    for (const std::size_t place : line.answers) {
      ids.push_back(list.documents[line.documents[place]].id);
    }
    std::vector<std::int32_t> answer = prompter.answer(ids);
    if (end) answer.push_back(*end);
    sequences.push_back(rank_sequence(prompt, answer, line.answers, config));
    num_tokens += std::ssize(sequences.back().tokens);
    progress.update(std::ssize(sequences));
  }
  write_sequence_folder(out, sequences);
  progress.finish();
  if (json) {
    std::cout << json_line({{"out", out}, {"prompts", sequences.size()}, {"tokens", num_tokens}},
                           "rank-prompts")
              << std::endl;
    return;
  }
  fmt::print(
      "{}: {} prompts, {} tokens; documents of at most {} tokens, queries from position {} on\n",
      out, sequences.size(), num_tokens, config.chunk_len, config.query_pos_offset);
}

}  // namespace

void add_rank_prompts_command(CLI::App& app) {
  auto command = std::make_shared<RankPromptsCommand>();
  CLI::App& sub = *app.add_subcommand(
      "rank-prompts", "Write ranking prompts with their answers as data for perpend train");
  sub.add_option("lines", command->lines,
                 "JSONL file: query, documents (ids of --docs), answer_ids")
      ->required();
  sub.add_option("out", command->out, "Folder of sequences to make")->required();
  add_option(sub, "--docs", command->docs, "As of perpend rank: a JSONL file, a folder or debian")
      ->required();
  add_option(sub, "--model", command->model, "Whose tokenizer and chat form they are for");
  add_option(sub, "--limit", command->limit,
             "Tokens of a document, which is cut to them; 0: what the model is made for");
  add_option(sub, "--query-position", command->query_position,
             "Position of the first token of the query block; 0: as the model says");
  add_flag(sub, "--query-last", command->reusable,
           "Show the query behind the documents only, not before them too");
  add_flag(sub, "--json", command->json, "Print one JSON object");
  sub.footer(
      "Examples:\n"
      "  perpend rank-prompts train.jsonl data/train --docs debian --limit 160 "
      "--query-position 1536");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
