#include "perpend/io/svg.h"

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"

namespace perpend {

SvgScene::SvgScene(double width, double height) : width_(width), height_(height) {
  check(width > 0 && height > 0, "SVG: width and height must be positive");
}

void SvgScene::rect(double x, double y, double width, double height, Image::Color color) {
  body_ +=
      concat("<rect x=\"", x, "\" y=\"", y, "\" width=\"", width, "\" height=\"", height,
             "\" fill=\"rgb(", int{color[0]}, ",", int{color[1]}, ",", int{color[2]}, ")\"/>\n");
}

std::string SvgScene::str() const {
  return concat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width_, " ", height_,
                "\" shape-rendering=\"crispEdges\">\n<rect width=\"", width_, "\" height=\"",
                height_, "\" fill=\"white\"/>\n", body_, "</svg>\n");
}

void SvgScene::write(const std::string& path) const {
  AtomicFile file(path);
  file.write(str());
  file.commit();
}

}  // namespace perpend
