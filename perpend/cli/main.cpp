#include <csignal>
#include <exception>
#include <iostream>

#include "perpend/cli/commands.h"
#include "perpend/core/error.h"

int main(int argc, char** argv) {
  using namespace perpend;  // NOLINT(google-build-using-namespace): the program's own names
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
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    // Help and version are "errors" with exit code 0; everything else is the caller's mistake.
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::cerr << "perpend: " << error.what() << "\n";
    return exit_code(error);
  }
}
