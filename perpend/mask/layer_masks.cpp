#include "perpend/mask/layer_masks.h"

#include <charconv>
#include <optional>

#include "perpend/core/error.h"
#include "perpend/mask/mask_text.h"

namespace perpend {
namespace {

[[noreturn]] void fail(std::size_t column, const std::string& what) {
  throw InvalidArgument(concat("layers: column ", column, ": ", what));
}

// A piece of the text with the column at which it begins.
struct Piece {
  std::string_view text;
  std::size_t column;
};

Piece trimmed(Piece piece) {
  while (!piece.text.empty() && piece.text.front() == ' ') {
    piece.text.remove_prefix(1);
    ++piece.column;
  }
  while (!piece.text.empty() && piece.text.back() == ' ') piece.text.remove_suffix(1);
  return piece;
}

std::vector<Piece> split(Piece piece, char separator) {
  std::vector<Piece> parts;
  while (true) {
    const std::size_t end = piece.text.find(separator);
    parts.push_back(trimmed({piece.text.substr(0, end), piece.column}));
    if (end == std::string_view::npos) return parts;
    piece = {piece.text.substr(end + 1), piece.column + end + 1};
  }
}

int parse_layer(Piece piece, int num_layers) {
  int layer = -1;
  const auto [end, error] =
      std::from_chars(piece.text.data(), piece.text.data() + piece.text.size(), layer);
  if (error != std::errc() || end != piece.text.data() + piece.text.size()) {
    fail(piece.column, concat("expected a layer number, a range, all or rest, found '",
                              piece.text.substr(0, 40), "'"));
  }
  if (layer < 0 || layer >= num_layers) {
    fail(piece.column,
         concat("layer ", layer, " does not exist: the model has 0 to ", num_layers - 1));
  }
  return layer;
}

class LayerMasks {
 public:
  explicit LayerMasks(int num_layers) : masks_(static_cast<std::size_t>(num_layers)) {}

  void add(Piece selector, const Mask& mask) {
    if (selector.text == "all") return set(selector.column, 0, size() - 1, mask);
    if (selector.text == "rest") {
      if (rest_) fail(selector.column, "rest is given twice");
      rest_ = mask;
      return;
    }
    const std::size_t dash = selector.text.find('-');
    if (dash == std::string_view::npos) {
      const int layer = parse_layer(selector, size());
      return set(selector.column, layer, layer, mask);
    }
    const int first =
        parse_layer(trimmed({selector.text.substr(0, dash), selector.column}), size());
    const int last =
        parse_layer(trimmed({selector.text.substr(dash + 1), selector.column + dash + 1}), size());
    if (first > last) fail(selector.column, concat("range ", first, "-", last, " runs backwards"));
    set(selector.column, first, last, mask);
  }

  std::vector<Mask> finish() const {
    std::vector<Mask> result;
    for (std::size_t layer = 0; layer < masks_.size(); ++layer) {
      const std::optional<Mask>& mask = masks_[layer] ? masks_[layer] : rest_;
      if (!mask) {
        throw InvalidArgument(concat("layers: layer ", layer, " has no mask; add 'rest: ...'"));
      }
      result.push_back(*mask);
    }
    return result;
  }

 private:
  int size() const { return static_cast<int>(masks_.size()); }

  void set(std::size_t column, int first, int last, const Mask& mask) {
    for (int layer = first; layer <= last; ++layer) {
      auto& slot = masks_[static_cast<std::size_t>(layer)];
      if (slot) fail(column, concat("layer ", layer, " is given twice"));
      slot = mask;
    }
  }

  std::vector<std::optional<Mask>> masks_;
  std::optional<Mask> rest_;
};

}  // namespace

std::vector<Mask> parse_layer_masks(std::string_view text, int num_layers) {
  LayerMasks masks(num_layers);
  for (const Piece& part : split({text, 1}, ';')) {
    if (part.text.empty()) fail(part.column, "expected a mask or 'layers: mask'");
    const std::size_t colon = part.text.find(':');
    if (colon == std::string_view::npos) {
      masks.add({"all", part.column}, parse_mask_at(part.text, part.column));
      continue;
    }
    const Mask mask = parse_mask_at(part.text.substr(colon + 1), part.column + colon + 1);
    for (const Piece& selector : split({part.text.substr(0, colon), part.column}, ',')) {
      masks.add(selector, mask);
    }
  }
  return masks.finish();
}

}  // namespace perpend
