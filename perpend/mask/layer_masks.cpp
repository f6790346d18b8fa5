#include "perpend/mask/layer_masks.h"

#include <optional>

#include "perpend/core/error.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {
namespace {

[[noreturn]] void fail(std::size_t column, const std::string& what) {
  throw InvalidArgument(concat("layers: column ", column, ": ", what));
}

class LayerMasks {
 public:
  explicit LayerMasks(int num_layers) : masks_(static_cast<std::size_t>(num_layers)) {}

  void add(const Choice::Selector& selector, const Mask& mask) {
    if (selector.is_rest) {
      if (rest_) fail(selector.column, "rest is given twice");
      rest_ = mask;
    } else if (selector.is_all) {
      set(selector.column, 0, size() - 1, mask);
    } else {
      if (selector.last >= size()) {
        fail(selector.last_column,
             concat("layer ", selector.last, " does not exist: the model has 0 to ", size() - 1));
      }
      set(selector.column, selector.first, selector.last, mask);
    }
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
  for (const Choice& choice : split_choices(text, "layers", "layer", 1)) {
    const Mask mask = parse_mask_at(choice.text, choice.column);
    if (choice.selectors.empty()) masks.add({.is_all = true, .column = choice.column}, mask);
    for (const Choice::Selector& selector : choice.selectors) masks.add(selector, mask);
  }
  return masks.finish();
}

}  // namespace perpend
