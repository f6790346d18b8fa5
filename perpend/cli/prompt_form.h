#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perpend/models/loaded_model.h"

namespace perpend {

// How a text becomes a prompt: as a message of the chat form, or as it stands.
struct PromptForm {
  std::string system = {};  // message before it
  bool chat = false;        // even if the model names no template
  bool raw = false;

  // Throws InvalidArgument for a system message without the chat form and for both forms at once;
  // Unsupported for a chat form that the model does not have.
  std::vector<std::int32_t> encode(const LoadedModel& model, const std::string& text) const;
};

}  // namespace perpend
