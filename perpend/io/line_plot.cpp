#include "perpend/io/line_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/plot_font.h"
#include "perpend/io/svg.h"

namespace perpend {
namespace {

constexpr int kWidth = 960;
constexpr int kHeight = 600;
constexpr double kLeft = 110;
constexpr double kRight = 30;
constexpr double kTop = 60;
constexpr double kBottom = 70;
constexpr double kTextSize = 16;
constexpr Image::Color kInk = {40, 40, 40};
constexpr Image::Color kGrid = {225, 225, 225};
// Colours that differ for colour-blind readers too (Okabe and Ito 2008).
constexpr std::array<Image::Color, 6> kColors = {
    {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {230, 159, 0}, {86, 180, 233}}};

using Points = std::vector<std::pair<double, double>>;
using Anchor = SvgScene::Anchor;

// What a plot is drawn on.
class Canvas {
 public:
  virtual ~Canvas() = default;
  virtual void line(const Points& points, double width, Image::Color color) = 0;
  virtual void text(double x, double y, const std::string& text, Anchor anchor) = 0;
};

class SvgCanvas final : public Canvas {
 public:
  void line(const Points& points, double width, Image::Color color) override {
    scene_.line(points, width, color);
  }
  void text(double x, double y, const std::string& text, Anchor anchor) override {
    scene_.text(x, y, text, kTextSize, anchor, kInk);
  }
  std::string str() const { return scene_.str(); }

 private:
  SvgScene scene_{kWidth, kHeight};
};

class ImageCanvas final : public Canvas {
 public:
  void line(const Points& points, double width, Image::Color color) override {
    for (std::size_t i = 1; i < points.size(); ++i) {
      stroke(points[i - 1], points[i], width, color);
    }
  }

  void text(double x, double y, const std::string& text, Anchor anchor) override {
    constexpr int kScale = 2;
    constexpr int kAdvance = (kGlyphWidth + 1) * kScale;
    const double length = static_cast<double>(text.size()) * kAdvance;
    const double share = anchor == Anchor::kStart ? 0.0 : anchor == Anchor::kMiddle ? 0.5 : 1.0;
    int left = static_cast<int>(x - share * length);
    const int top = static_cast<int>(y) - kGlyphHeight * kScale;
    for (const char letter : text) {
      const std::string_view dots = glyph_of(letter);
      for (int i = 0; i < kGlyphWidth * kGlyphHeight; ++i) {
        if (dots[static_cast<std::size_t>(i)] != '#') continue;
        square(left + i % kGlyphWidth * kScale, top + i / kGlyphWidth * kScale, kScale, kInk);
      }
      left += kAdvance;
    }
  }

  Image take() { return std::move(image_); }

 private:
  void square(int left, int top, int size, Image::Color color) {
    for (int y = std::max(0, top); y < std::min(kHeight, top + size); ++y) {
      for (int x = std::max(0, left); x < std::min(kWidth, left + size); ++x) {
        image_.set(x, y, color);
      }
    }
  }

  void stroke(std::pair<double, double> from, std::pair<double, double> to, double width,
              Image::Color color) {
    const double dx = to.first - from.first;
    const double dy = to.second - from.second;
    const int steps =
        std::max(1, static_cast<int>(std::ceil(std::max(std::abs(dx), std::abs(dy)))));
    for (int i = 0; i <= steps; ++i) {
      const double share = static_cast<double>(i) / steps;
      square(static_cast<int>(std::lround(from.first + share * dx - width / 2)),
             static_cast<int>(std::lround(from.second + share * dy - width / 2)),
             static_cast<int>(std::lround(width)), color);
    }
  }

  Image image_{kWidth, kHeight};
};

// One axis: the range of its values and round numbers in it.
struct Axis {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double step = 1.0;

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }

  // Widens the range to whole steps of 1, 2 or 5 times a power of ten, about six of them.
  void make_round() {
    if (low > high) low = high = 0;
    if (low == high) {
      low -= 0.5;
      high += 0.5;
    }
    const double rough = (high - low) / 6;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    step = power * (rough > 5 * power ? 10 : rough > 2 * power ? 5 : rough > power ? 2 : 1);
    low = std::floor(low / step) * step;
    high = std::ceil(high / step) * step;
  }

  int num_steps() const { return static_cast<int>(std::lround((high - low) / step)); }
  double share(double value) const { return (value - low) / (high - low); }

  std::string label(int i) const {
    const double value = low + i * step;
    return concat(std::abs(value) < step / 2 ? 0.0 : value);
  }
};

class Drawing {
 public:
  Drawing(const LinePlot& plot, Canvas& canvas) : plot_(plot), canvas_(canvas) {
    for (const LinePlot::Series& series : plot.series) {
      check_eq(series.x.size(), series.y.size(), "plot: numbers of x and y differ");
      for (std::size_t i = 0; i < series.x.size(); ++i) {
        if (!std::isfinite(series.y[i])) continue;
        x_.include(series.x[i]);
        y_.include(series.y[i]);
      }
    }
    x_.make_round();
    y_.make_round();
  }

  void draw() {
    canvas_.text(kWidth / 2.0, kTop / 2, plot_.title, Anchor::kMiddle);
    draw_grid();
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      const Image::Color color = kColors[i % kColors.size()];
      draw_series(plot_.series[i], color);
      const double y = kTop + 20 + 22 * static_cast<double>(i);
      canvas_.line({{kWidth - kRight - 40, y - 5}, {kWidth - kRight - 10, y - 5}}, 3, color);
      canvas_.text(kWidth - kRight - 48, y, plot_.series[i].name, Anchor::kEnd);
    }
  }

 private:
  double x_at(double value) const { return kLeft + x_.share(value) * (kWidth - kLeft - kRight); }
  double y_at(double value) const {
    return kHeight - kBottom - y_.share(value) * (kHeight - kTop - kBottom);
  }

  void draw_grid() {
    for (int i = 0; i <= x_.num_steps(); ++i) {
      const double x = x_at(x_.low + i * x_.step);
      canvas_.line({{x, kTop}, {x, kHeight - kBottom}}, 1, kGrid);
      canvas_.text(x, kHeight - kBottom + 22, x_.label(i), Anchor::kMiddle);
    }
    for (int i = 0; i <= y_.num_steps(); ++i) {
      const double y = y_at(y_.low + i * y_.step);
      canvas_.line({{kLeft, y}, {kWidth - kRight, y}}, 1, kGrid);
      canvas_.text(kLeft - 10, y + 6, y_.label(i), Anchor::kEnd);
    }
    canvas_.line({{kLeft, kTop}, {kLeft, kHeight - kBottom}, {kWidth - kRight, kHeight - kBottom}},
                 2, kInk);
    canvas_.text((kLeft + kWidth - kRight) / 2, kHeight - 15, plot_.x_label, Anchor::kMiddle);
    canvas_.text(15, kTop - 15, plot_.y_label, Anchor::kStart);
  }

  void draw_series(const LinePlot::Series& series, Image::Color color) {
    Points points;
    for (std::size_t i = 0; i <= series.x.size(); ++i) {
      if (i < series.x.size() && std::isfinite(series.y[i])) {
        points.emplace_back(x_at(series.x[i]), y_at(series.y[i]));
        continue;
      }
      if (points.size() == 1) points.push_back(points.front());
      canvas_.line(points, 2, color);
      points.clear();
    }
  }

  const LinePlot& plot_;
  Canvas& canvas_;
  Axis x_;
  Axis y_;
};

}  // namespace

std::string LinePlot::svg() const {
  SvgCanvas canvas;
  Drawing(*this, canvas).draw();
  return canvas.str();
}

Image LinePlot::image() const {
  ImageCanvas canvas;
  Drawing(*this, canvas).draw();
  return canvas.take();
}

}  // namespace perpend
