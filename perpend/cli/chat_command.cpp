#include <iostream>

#include "perpend/cli/commands.h"
#include "perpend/cli/interrupt_scope.h"
#include "perpend/cli/model_options.h"
#include "perpend/cli/options.h"
#include "perpend/cli/report.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostMebibytes = 1 << 20;

struct ChatCommand {
  ModelOptions model;
  GenerationFlags generation;
  std::string system;
  std::int64_t prefix_cache = 512;  // MiB
  bool stats = false;

  void run();
  // Answers the last message and appends the answer.
  void answer(const LoadedModel& loaded, TextGenerator& generator,
              std::vector<ChatMessage>& messages);
  std::vector<ChatMessage> opening() const;
};

std::vector<ChatMessage> ChatCommand::opening() const {
  if (system.empty()) return {};
  return {{"system", system}};
}

void ChatCommand::answer(const LoadedModel& loaded, TextGenerator& generator,
                         std::vector<ChatMessage>& messages) {
  // Ctrl-C ends the answer in the making, not the program.
  const InterruptScope scope;
  GenerateCallbacks callbacks;
  callbacks.on_text = [&](std::string_view text) {
    std::cout << text << std::flush;
    return std::cout.good() && !InterruptScope::interrupted();
  };
  callbacks.on_prefill = [&](std::int64_t, std::int64_t) { return !InterruptScope::interrupted(); };
  const GenerateResult result =
      generator.generate(loaded.encode_chat(messages), generation.options, callbacks);
  std::cout << std::endl;
  if (stats) std::cerr << report_line(result) << "\n";
  messages.push_back({"assistant", result.text});
}

void ChatCommand::run() {
  check_options(generation.options.sampler);
  check(
      prefix_cache >= 0 && prefix_cache <= kMostMebibytes,
      concat("chat: --prefix-cache: expected 0 to ", kMostMebibytes, " MiB, found ", prefix_cache));
  ModelSession session(model);
  if (!session.model.has_chat_template()) {
    throw Unsupported(concat("chat: model ", model.model,
                             " has no chat template; `perpend generate --raw` continues text"));
  }
  generation.options.layer_masks = session.layer_masks;
  TextGenerator generator(session.model, session.runtime.context(), session.kv_dtype,
                          prefix_cache << 20);
  std::vector<ChatMessage> messages = opening();
  std::cerr << "Chat with " << model.model
            << ". Ctrl-C stops an answer; /new starts over; /exit or Ctrl-D ends.\n";
  for (std::string line; std::cerr << "> ", std::getline(std::cin, line);) {
    if (line.empty()) continue;
    if (line == "/exit") return;
    if (line == "/new") {
      messages = opening();
      continue;
    }
    messages.push_back({"user", line});
    try {
      answer(session.model, generator, messages);
    } catch (const InvalidArgument& error) {
      // The conversation may have outgrown the context: say so, and let the user go on from /new.
      std::cerr << "perpend: " << error.what() << "\n";
      messages.pop_back();
    }
  }
  std::cerr << "\n";
}

}  // namespace

void add_chat_command(CLI::App& app) {
  auto command = std::make_shared<ChatCommand>();
  CLI::App& sub = *app.add_subcommand("chat", "A conversation in the terminal");
  add_option(sub, "--system", command->system, "System message");
  add_option(sub, "--prefix-cache", command->prefix_cache,
             "MiB of keys and values kept of earlier prompts, so that a conversation that begins "
             "like one of them (in whole --prefill-chunk tokens) runs only what is new");
  add_flag(sub, "--stats", command->stats, "Print tokens, speeds and memory after each answer");
  command->model.add_to(sub);
  command->generation.add_to(sub);
  sub.footer(
      "Examples:\n"
      "  perpend chat\n"
      "  perpend chat --system \"You answer in rhymes.\" --temperature 1 --seed 7");
  sub.callback([command] { command->run(); });
}

}  // namespace perpend
