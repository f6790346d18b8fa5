#include "perpend/cli/prompt_source.h"

#include <array>
#include <cstdio>

#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {

std::string read_standard_input(std::string_view what) {
  constexpr std::size_t kMaxBytes = 64U << 20;
  std::string text;
  std::array<char, 65536> chunk;
  for (std::size_t count; (count = std::fread(chunk.data(), 1, chunk.size(), stdin)) > 0;) {
    text.append(chunk.data(), count);
    check(text.size() <= kMaxBytes, concat(what, ": standard input is longer than 64 MiB"));
  }
  return text;
}

std::string read_prompt(const std::optional<std::string>& argument) {
  if (argument && *argument != "-") {
    check(!argument->empty(), "prompt: it is empty");
    return *argument;
  }
  if (!argument && isatty(STDIN_FILENO) == 1) {
    throw InvalidArgument("prompt: expected a text, or - to read standard input");
  }
  std::string text = read_standard_input("prompt");
  check(!text.empty(), "prompt: standard input is empty");
  return text;
}

}  // namespace perpend
