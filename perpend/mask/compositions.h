#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perpend {

// A named mask of a paper: text with parameters, which the parser writes out.
struct Composition {
  std::string_view name;
  // `n, b` or, with values for those left out at the end, `b = 64, s = 1`; a value may use the
  // parameters before it.
  std::string_view parameters;
  // The mask. `{n * b + 1}` stands for the value of a sum of products of integer parameters,
  // `{doc}` for a label or a name given as argument.
  std::string_view text;
  std::string_view paper;
  std::string_view summary;
};

std::span<const Composition> compositions();
const Composition* find_composition(std::string_view name);  // null when there is none

// The text with its parameters replaced by `arguments` (integers, labels and names as text).
// Throws InvalidArgument for too few or too many of them and for values that do not fit.
std::string expanded(const Composition& composition, const std::vector<std::string>& arguments);

}  // namespace perpend
