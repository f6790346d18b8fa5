#include "perpend/train/noising.h"

#include <algorithm>

namespace perpend {

std::int64_t BlockGrowth::at(std::int64_t step) const {
  std::int64_t size = std::min(first, last);
  for (std::int64_t grown = (step - delay) / interval; grown > 0 && size < last; --grown) {
    size = std::min(last, size * factor);
  }
  return size;
}

Mask diffusion_mask(DiffusionAttention attention, std::int64_t length, std::int64_t block_size,
                    int views) {
  const Mask own_copy = Mask::same(Label::block(length));
  if (attention == DiffusionAttention::kFull) return views == 1 ? Mask::all() : own_copy;
  const Label copy = Label::copy(views * length);
  const Label block = Label::within(length, Label::block(block_size));
  const Mask noised = Mask::q_in(copy, {0});
  const Mask clean = Mask::k_in(copy, {1});
  const Mask context =
      attention == DiffusionAttention::kContextCausal ? Mask::causal() : Mask::upto(block);
  return (noised & own_copy & Mask::same(block)) | (noised & clean & Mask::before(block)) |
         (Mask::q_in(copy, {1}) & clean & context);
}

}  // namespace perpend
