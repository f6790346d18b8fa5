#include "perpend/io/svg.h"

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"

namespace perpend {
namespace {

std::string color_text(Image::Color color) {
  return concat("rgb(", int{color[0]}, ",", int{color[1]}, ",", int{color[2]}, ")");
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    switch (letter) {
      case '<':
        result += "&lt;";
        break;
      case '&':
        result += "&amp;";
        break;
      default:
        result += letter;
    }
  }
  return result;
}

std::string_view anchor_word(SvgScene::Anchor anchor) {
  switch (anchor) {
    case SvgScene::Anchor::kStart:
      return "start";
    case SvgScene::Anchor::kMiddle:
      return "middle";
    case SvgScene::Anchor::kEnd:
      return "end";
  }
  bug("anchor_word: unknown anchor");
}

}  // namespace

SvgScene::SvgScene(double width, double height) : width_(width), height_(height) {
  check(width > 0 && height > 0, "SVG: width and height must be positive");
}

void SvgScene::rect(double x, double y, double width, double height, Image::Color color) {
  body_ += concat("<rect x=\"", x, "\" y=\"", y, "\" width=\"", width, "\" height=\"", height,
                  "\" fill=\"", color_text(color), "\"/>\n");
}

void SvgScene::line(const std::vector<std::pair<double, double>>& points, double width,
                    Image::Color color) {
  if (points.size() < 2) return;
  std::string list;
  for (const auto& [x, y] : points) list += concat(list.empty() ? "" : " ", x, ",", y);
  body_ += concat("<polyline points=\"", list, "\" fill=\"none\" stroke-width=\"", width,
                  "\" stroke=\"", color_text(color), "\" shape-rendering=\"auto\"/>\n");
}

void SvgScene::text(double x, double y, std::string_view text, double size, Anchor anchor,
                    Image::Color color) {
  body_ += concat("<text x=\"", x, "\" y=\"", y, "\" font-family=\"sans-serif\" font-size=\"", size,
                  "\" text-anchor=\"", anchor_word(anchor), "\" fill=\"", color_text(color), "\">",
                  escaped(text), "</text>\n");
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
