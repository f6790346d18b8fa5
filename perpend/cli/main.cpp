#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "perpend/cli/commands.h"
#include "perpend/core/error.h"

namespace {

// Errors are one line, so that a script can show them: line breaks of a quoted text become blanks.
int fail(std::string text, int exit_code) {
  std::replace_if(
      text.begin(), text.end(), [](char letter) { return letter == '\n' || letter == '\r'; }, ' ');
  std::cerr << "perpend: " << text << "\n";
  return exit_code;
}

// A file that is opened later must not take the place of standard output that is closed.
void keep_closed_streams_closed() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) != -1) continue;
    // Opened for the wrong direction: reads and writes fail as they would.
    open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

// Whether nobody reads what is written, which is no error: `perpend mask list | head -1`.
bool reader_is_gone() {
  pollfd stream{STDOUT_FILENO, POLLOUT, 0};
  return poll(&stream, 1, 0) == 1 && (stream.revents & POLLERR) != 0;
}

// The status, unless something that was printed did not arrive.
int finish(int status) {
  std::cout.flush();
  const bool has_failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout.good();
  if (!has_failed || reader_is_gone()) return status;
  return fail("standard output could not be written (disk full?)", 2);
}

std::string text_of(const CLI::ParseError& error, const CLI::App& app) {
  // CLI11 asks for what is missing even where something that it does not know was given.
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (unknown.empty()) return error.what();
  return "unknown argument '" + unknown.front() + "'";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace perpend;  // NOLINT(google-build-using-namespace): the program's own names
  keep_closed_streams_closed();
  // A reader that goes away shows as a failed write, not as a killed program.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"perpend: an engine for block-structured transformers", "perpend"};
  app.set_version_flag("--version", std::string("perpend " PERPEND_VERSION));
  app.require_subcommand(1);
  app.fallthrough();
  try {
    add_generate_command(app);
    add_chat_command(app);
    add_inspect_command(app);
    add_convert_command(app);
    add_mask_command(app);
    add_perplexity_command(app);
    add_rank_command(app);
    add_rank_prompts_command(app);
    add_train_command(app);
    add_evaluate_command(app);
    add_verify_command(app);
    add_bench_command(app);
    add_plan_command(app);
    app.parse(argc, argv);
    return finish(0);
  } catch (const CLI::RuntimeError& verdict) {
    // A command that has said all: only its status is left.
    return finish(verdict.get_exit_code());
  } catch (const CLI::ParseError& error) {
    // Help and version are "errors" with exit code 0; everything else is the caller's mistake.
    if (error.get_exit_code() == 0) return finish(app.exit(error));
    return fail(text_of(error, app) + " (--help lists what there is)", 2);
  } catch (const std::bad_alloc& error) {
    return fail("there is not enough memory for what was asked for", exit_code(error));
  } catch (const std::exception& error) {
    return fail(error.what(), exit_code(error));
  }
}
