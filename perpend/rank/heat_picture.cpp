#include "perpend/rank/heat_picture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "perpend/core/error.h"
#include "perpend/io/png.h"
#include "perpend/io/svg.h"

namespace perpend {
namespace {

constexpr int kCellWidth = 6;
constexpr int kCellHeight = 12;
constexpr int kGap = 2;  // between rows
constexpr Image::Color kNothing = {235, 235, 235};

struct Grid {
  explicit Grid(std::span<const std::vector<float>> rows) {
    check(!rows.empty(), "heat picture: there are no rows");
    num_rows = static_cast<int>(rows.size());
    for (const std::vector<float>& row : rows) {
      num_columns = std::max(num_columns, static_cast<int>(row.size()));
      for (const float weight : row) heaviest = std::max(heaviest, weight);
    }
  }
  int width() const { return std::max(1, num_columns) * kCellWidth; }
  int height() const { return num_rows * (kCellHeight + kGap); }

  int num_rows = 0;
  int num_columns = 0;
  float heaviest = 0;
};

// Calls rect(x, y, color) for every cell.
template <class Rect>
void for_cells(std::span<const std::vector<float>> rows, const Grid& grid, Rect rect) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < rows[row].size(); ++i) {
      const double share =
          grid.heaviest > 0 ? std::sqrt(static_cast<double>(rows[row][i] / grid.heaviest)) : 0;
      rect(static_cast<int>(i) * kCellWidth, static_cast<int>(row) * (kCellHeight + kGap),
           heat_color(share));
    }
  }
}

}  // namespace

Image::Color heat_color(double share) {
  constexpr std::array<std::array<double, 3>, 5> kStops = {
      {{255, 255, 255}, {255, 236, 150}, {250, 150, 50}, {205, 40, 30}, {60, 0, 20}}};
  const double place = std::clamp(share, 0.0, 1.0) * (kStops.size() - 1);
  const auto stop = std::min<std::size_t>(static_cast<std::size_t>(place), kStops.size() - 2);
  const double part = place - static_cast<double>(stop);
  Image::Color color;
  for (std::size_t i = 0; i < color.size(); ++i) {
    const double value = kStops[stop][i] + part * (kStops[stop + 1][i] - kStops[stop][i]);
    color[i] = static_cast<std::uint8_t>(std::lround(value));
  }
  return color;
}

Image draw_heat(std::span<const std::vector<float>> rows) {
  const Grid grid(rows);
  Image image(grid.width(), grid.height(), kNothing);
  for_cells(rows, grid, [&](int left, int top, Image::Color color) {
    for (int y = 0; y < kCellHeight; ++y) {
      for (int x = 0; x < kCellWidth; ++x) image.set(left + x, top + y, color);
    }
  });
  return image;
}

void write_heat(std::span<const std::vector<float>> rows, const std::string& path) {
  if (path.ends_with(".png")) return write_png(draw_heat(rows), path);
  check(path.ends_with(".svg"),
        concat("picture: expected a path ending in .png or .svg (", path, ")"));
  const Grid grid(rows);
  SvgScene scene(grid.width(), grid.height());
  scene.rect(0, 0, grid.width(), grid.height(), kNothing);
  for_cells(rows, grid, [&](int left, int top, Image::Color color) {
    scene.rect(left, top, kCellWidth, kCellHeight, color);
  });
  scene.write(path);
}

}  // namespace perpend
