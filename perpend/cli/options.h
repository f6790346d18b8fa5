#pragma once

#include <cctype>
#include <charconv>
#include <limits>
#include <string>
#include <type_traits>

#include <CLI/CLI.hpp>

#include "perpend/core/concat.h"

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

// Accepts what fits T to the last digit: CLI11 wraps -1 and clips what is too large.
template <class T>
CLI::Validator integer_of() {
  const auto fault = [](const std::string& text) -> std::string {
    T value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && stop == end) return "";
    return concat("expected an integer from ", std::numeric_limits<T>::min(), " to ",
                  std::numeric_limits<T>::max(), ", found ", text);
  };
  return {fault, ""};
}

// An option "--name VALUE" that PERPEND_NAME may give too; its present value is the default shown.
template <class T>
CLI::Option* add_option(CLI::App& app, const std::string& flag, T& value, const std::string& help) {
  CLI::Option* option =
      app.add_option(flag, value, help)->envname(environment_name(flag))->capture_default_str();
  if constexpr (std::is_integral_v<T>) option->check(integer_of<T>());
  return option;
}

// A switch "--name"; PERPEND_NAME=1 turns it on.
inline CLI::Option* add_flag(CLI::App& app, const std::string& flag, bool& value,
                             const std::string& help) {
  return app.add_flag(flag, value, help)->envname(environment_name(flag));
}

}  // namespace perpend
