#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perpend/core/image.h"

namespace perpend {

// A drawing of rectangles, lines and words as SVG text, in user units of the caller's choice.
class SvgScene {
 public:
  SvgScene(double width, double height);

  void rect(double x, double y, double width, double height, Image::Color color);
  // Through all points in turn; nothing for fewer than two.
  void line(const std::vector<std::pair<double, double>>& points, double width, Image::Color color);
  // Which point of a text its x is.
  enum class Anchor { kStart, kMiddle, kEnd };
  // `y` is that of the line the letters stand on.
  void text(double x, double y, std::string_view text, double size, Anchor anchor,
            Image::Color color);
  std::string str() const;
  // Throws IoError with path and reason.
  void write(const std::string& path) const;

 private:
  double width_;
  double height_;
  std::string body_;
};

}  // namespace perpend
