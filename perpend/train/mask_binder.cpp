#include "perpend/train/mask_binder.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

Mask bound_to(const Mask& mask, const std::vector<std::string>& names, const PackedBatch& batch,
              std::size_t sequence) {
  Bindings bindings;
  for (const std::string& name : names) {
    const auto label = batch.labels.find(name);
    check(label != batch.labels.end(),
          concat("mask '", mask, "': the data has no label '", name, "'"));
    const auto rows = batch.rows_of(label->second, sequence);
    bindings.set(name, Label::array(std::vector<std::int64_t>(rows.begin(), rows.end())));
  }
  return mask.bind(bindings);
}

// One mask for all where all are equal, so that planning finds the same call again.
BatchMasks shared(const std::vector<Mask>& masks) {
  const bool equal = std::all_of(masks.begin(), masks.end(),
                                 [&](const Mask& mask) { return mask == masks.front(); });
  return std::make_shared<std::vector<Mask>>(masks.begin(),
                                             equal ? masks.begin() + 1 : masks.end());
}

}  // namespace

MaskBinder::MaskBinder(std::vector<Mask> layer_masks) {
  for (const Mask& mask : layer_masks) {
    const auto same = [&](const Kind& kind) { return kind.mask == mask; };
    const auto found = std::find_if(kinds_.begin(), kinds_.end(), same);
    kind_of_layer_.push_back(static_cast<std::size_t>(found - kinds_.begin()));
    if (found == kinds_.end()) kinds_.push_back({mask, mask.unbound_names()});
  }
}

std::vector<BatchMasks> MaskBinder::bind(const PackedBatch& batch) const {
  if (!batch.masks.empty()) return {kind_of_layer_.size(), shared(batch.masks)};
  std::vector<BatchMasks> bound;
  for (const Kind& kind : kinds_) {
    auto masks = std::make_shared<std::vector<Mask>>();
    if (kind.names.empty()) masks->push_back(kind.mask);
    for (std::size_t s = 0; !kind.names.empty() && s < batch.num_sequences(); ++s) {
      masks->push_back(bound_to(kind.mask, kind.names, batch, s));
    }
    bound.push_back(std::move(masks));
  }
  std::vector<BatchMasks> layers;
  for (const std::size_t kind : kind_of_layer_) layers.push_back(bound[kind]);
  return layers;
}

}  // namespace perpend
