#pragma once

#include <string>
#include <vector>

#include "perpend/io/template/ast.h"
#include "perpend/io/template/lexer.h"

namespace perpend::jinja {

// Throws IoError naming template, line and what was expected.
Block parse(const std::vector<Token>& tokens, const std::string& name);

}  // namespace perpend::jinja
