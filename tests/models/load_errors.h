#pragma once

#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"

namespace perpend {

// What load(path) says of each path: "" where it loads.
template <class Load>
nlohmann::json load_errors(std::span<char*> paths, Load load) {
  nlohmann::json errors = nlohmann::json::array();
  for (const char* path : paths) {
    try {
      load(path);
      errors.push_back("");
    } catch (const Error& error) {
      errors.push_back(error.what());
    }
  }
  return errors;
}

}  // namespace perpend
