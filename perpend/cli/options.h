#pragma once

#include <cctype>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

namespace perpend {

// "--max-tokens" -> "PERPEND_MAX_TOKENS": every flag is also an environment variable.
inline std::string environment_name(const std::string& flag) {
  std::string name = "PERPEND_";
  for (const char letter : flag.substr(flag.find_first_not_of('-'))) {
    name +=
        letter == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return name;
}

// An option "--name VALUE" that PERPEND_NAME may give too; its present value is the default shown.
template <class T>
CLI::Option* add_option(CLI::App& app, const std::string& flag, T& value, const std::string& help) {
  return app.add_option(flag, value, help)->envname(environment_name(flag))->capture_default_str();
}

// A switch "--name"; PERPEND_NAME=1 turns it on.
inline CLI::Option* add_flag(CLI::App& app, const std::string& flag, bool& value,
                             const std::string& help) {
  return app.add_flag(flag, value, help)->envname(environment_name(flag));
}

}  // namespace perpend
