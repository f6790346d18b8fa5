#pragma once

#include <string>
#include <vector>

#include "perpend/core/image.h"

namespace perpend {

// Curves over one pair of axes, as an SVG drawing or a picture.
struct LinePlot {
  struct Series {
    std::string name;
    std::vector<double> x;
    std::vector<double> y;  // as many; values that are not finite are gaps
  };

  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<Series> series;

  // Throws InvalidArgument for a series with unequal numbers of x and y.
  std::string svg() const;
  Image image() const;
};

}  // namespace perpend
