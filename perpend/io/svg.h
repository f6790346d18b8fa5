#pragma once

#include <string>

#include "perpend/core/image.h"

namespace perpend {

// A drawing of filled rectangles as SVG text, in user units of the caller's choice.
class SvgScene {
 public:
  SvgScene(double width, double height);

  void rect(double x, double y, double width, double height, Image::Color color);
  std::string str() const;
  // Throws IoError with path and reason.
  void write(const std::string& path) const;

 private:
  double width_;
  double height_;
  std::string body_;
};

}  // namespace perpend
