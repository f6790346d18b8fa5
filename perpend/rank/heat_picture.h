#pragma once

#include <span>
#include <string>
#include <vector>

#include "perpend/core/image.h"

namespace perpend {

// White for nothing, over yellow and red to black for `share` = 1 of the heaviest token.
Image::Color heat_color(double share);

// What tokens carried, a line for each row of weights (a document) and a cell for each token; the
// shade is the square root of a weight over the heaviest of all, so that small ones show.
Image draw_heat(std::span<const std::vector<float>> rows);

// The same into a file, by its ending .png or .svg. Throws InvalidArgument for another ending and
// IoError with path and reason.
void write_heat(std::span<const std::vector<float>> rows, const std::string& path);

}  // namespace perpend
