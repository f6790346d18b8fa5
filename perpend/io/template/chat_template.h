#pragma once

#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace perpend {

// A checkpoint's chat template: the Jinja subset that such templates use, without access to
// anything but the variables handed in, and with limits on time, depth and output.
class ChatTemplate {
 public:
  // Throws IoError "<name>: line <n>: ..." for text that is no template.
  ChatTemplate(const std::string& source, std::string name);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // `variables` is a JSON object (messages, add_generation_prompt, bos_token, ...). Throws
  // InvalidArgument naming template and line, also where the template calls raise_exception.
  std::string render(const nlohmann::ordered_json& variables) const;

 private:
  struct Parsed;
  std::unique_ptr<Parsed> parsed_;
};

}  // namespace perpend
