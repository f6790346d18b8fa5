#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>

#include "perpend/core/range.h"

namespace perpend {

// What a mask says of a rectangle of pairs.
enum class Answer : std::uint8_t { kNone, kSome, kAll };

struct MaskNode;

// Which key position k a query position q of a head may see: a value, cheap to copy, comparable,
// hashable, printable and parsable. Positions are absolute. Default-made: `all`.
class Mask {
 public:
  Mask();

  static Mask all();
  static Mask none();
  static Mask causal();                                       // k <= q
  static Mask window(std::int64_t width);                     // q - width < k
  static Mask window(std::int64_t left, std::int64_t right);  // q - left < k < q + right
  static Mask sink(std::int64_t count);                       // k < count

  friend Mask operator&(const Mask& a, const Mask& b);
  friend Mask operator|(const Mask& a, const Mask& b);
  friend Mask operator~(const Mask& a);

  // Whether query q of head 0 sees key k; BoundMask answers all other questions.
  bool visible(std::int64_t q, std::int64_t k) const;

  // Text that parse_mask() reads back to an equal value.
  std::string str() const;
  std::size_t hash() const;
  friend bool operator==(const Mask& a, const Mask& b);

  const MaskNode& node() const { return *node_; }

 private:
  explicit Mask(std::shared_ptr<const MaskNode> node);
  std::shared_ptr<const MaskNode> node_;
};

std::ostream& operator<<(std::ostream& out, const Mask& mask);

// Reads the text form: `all none causal window(w) window(l, r) sink(s)`, `~` binding tightest, then
// `&`, then `|`, and parentheses. Throws InvalidArgument with the column (from 1) and what was
// expected.
Mask parse_mask(std::string_view text);

}  // namespace perpend

template <>
struct std::hash<perpend::Mask> {
  std::size_t operator()(const perpend::Mask& mask) const { return mask.hash(); }
};
