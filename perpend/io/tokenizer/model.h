#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace perpend {

// A token and how many bytes of its word it covers.
struct Piece {
  std::int32_t id;
  std::size_t size;
};

// Turns one word, which is not empty, into tokens.
class Model {
 public:
  virtual ~Model() = default;
  // Appends the tokens of `word`, in order.
  virtual void tokenize(std::string_view word, std::vector<Piece>& tokens) const = 0;
};

}  // namespace perpend
