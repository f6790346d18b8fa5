#pragma once

#include "perpend/core/image.h"

namespace perpend {

// A colour that terminals number among their 256 and pictures mix.
struct ConfidenceColor {
  int terminal;
  Image::Color picture;
};

// Of a token by how sure the model was, 0 to 1: from red over yellow to green.
ConfidenceColor confidence_color(float confidence);

}  // namespace perpend
