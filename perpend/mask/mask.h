#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/label.h"

namespace perpend {

class Bindings;
struct MaskNode;

// What a mask says of a rectangle of pairs.
enum class Answer : std::uint8_t { kNone, kSome, kAll };

// Which heads a mask is asked about: `heads(...)` looks at the query head, `every(...)` at the
// key/value head.
struct HeadIndex {
  int q_head = 0;
  int kv_head = 0;
};

// Query heads [first, last], both included, as the text form has them.
struct HeadSpan {
  int first = 0;
  int last = 0;
  friend bool operator==(const HeadSpan&, const HeadSpan&) = default;
};

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
  static Mask same(const Label& label);                       // label(k) = label(q)
  static Mask upto(const Label& label);                       // label(k) <= label(q)
  static Mask before(const Label& label);                     // label(k) < label(q)
  // label(q), or label(k), is one of `values`, which are not none.
  static Mask q_in(const Label& label, std::vector<std::int64_t> values);
  static Mask k_in(const Label& label, std::vector<std::int64_t> values);
  // (floor(k / block_size) + step * g) mod count = 0 with g the key/value head.
  static Mask every(std::int64_t block_size, std::int64_t count, std::int64_t step = 0);
  // floor(q / block_size) - floor(k / block_size) < count.
  static Mask near(std::int64_t block_size, std::int64_t count);
  // Row label(q), column label(k) of a square table of '0' and '1', one text a row, at most 64.
  static Mask table(const Label& label, const std::vector<std::string>& rows);
  static Mask tiles(const std::string& name);  // a TileMap, to be bound
  // Each mask on its query heads, `rest` on all others.
  using HeadChoice = std::pair<std::vector<HeadSpan>, Mask>;
  static Mask heads(const std::vector<HeadChoice>& choices, const std::optional<Mask>& rest);

  // Every one of the masks, any of them; all of no masks is `all`, any of none is `none`.
  static Mask all_of(std::span<const Mask> masks);
  static Mask any_of(std::span<const Mask> masks);
  friend Mask operator&(const Mask& a, const Mask& b);
  friend Mask operator|(const Mask& a, const Mask& b);
  friend Mask operator~(const Mask& a);

  // The mask with its names replaced as far as `bindings` knows them; a bound name still prints as
  // its name.
  Mask bind(const Bindings& bindings) const;
  // Names that are not bound, in the order of the text, each once.
  std::vector<std::string> unbound_names() const;

  // Whether query q sees key k: the definition, pair by pair; BoundMask answers all other
  // questions. Throws InvalidArgument for a name that is not bound and a head without a mask.
  bool visible(std::int64_t q, std::int64_t k, HeadIndex head = {}) const;

  // Text that parse_mask() reads back to an equal value, as long as no name is bound.
  std::string str() const;
  std::size_t hash() const;
  friend bool operator==(const Mask& a, const Mask& b);

  const MaskNode& node() const { return *node_; }
  explicit Mask(std::shared_ptr<const MaskNode> node);

 private:
  std::shared_ptr<const MaskNode> node_;
};

std::ostream& operator<<(std::ostream& out, const Mask& mask);

// Reads the text form: every mask above by its name, with labels as parse_label() reads them
// (`causal window(w) window(l, r) sink(s) same(L) upto(L) before(L) q_in(L, c, ...) k_in(L, c, ...)
// every(b, n) every(b, n, step) near(b, n) table(L, 110, 011, 111) tiles(name)
// heads(0-3: m1; rest: m2) all none`), the named compositions of compositions.h, `~` binding
// tightest, then `&`, then `|`, and parentheses. Throws InvalidArgument with the column (from 1)
// and what was expected.
Mask parse_mask(std::string_view text);

}  // namespace perpend

template <>
struct std::hash<perpend::Mask> {
  std::size_t operator()(const perpend::Mask& mask) const { return mask.hash(); }
};
