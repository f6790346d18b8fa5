#include "perpend/io/template/chat_template.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/template/evaluator.h"
#include "perpend/io/template/lexer.h"
#include "perpend/io/template/parser.h"

namespace perpend {
namespace {

constexpr std::size_t kMaxSource = 1 << 20;

}  // namespace

struct ChatTemplate::Parsed {
  std::string name;
  jinja::Block block;
};

ChatTemplate::ChatTemplate(const std::string& source, std::string name)
    : parsed_(std::make_unique<Parsed>()) {
  if (source.size() > kMaxSource) {
    throw IoError(concat(name, ": the template is longer than ", kMaxSource, " bytes"));
  }
  parsed_->name = std::move(name);
  parsed_->block = jinja::parse(jinja::tokenize(source, parsed_->name), parsed_->name);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const nlohmann::ordered_json& variables) const {
  const jinja::Value context = jinja::Value::from_json(variables);
  if (context.dict() == nullptr)
    throw InvalidArgument("chat template: variables must be an object");
  return jinja::evaluate(parsed_->block, *context.dict(), parsed_->name);
}

}  // namespace perpend
