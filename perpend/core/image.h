#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "perpend/core/error.h"

namespace perpend {

// An 8-bit RGB picture as a value; io/ writes it to files.
struct Image {
  using Color = std::array<std::uint8_t, 3>;

  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  // [height, width, 3]

  Image() = default;
  Image(int width_px, int height_px, Color fill = {255, 255, 255})
      : width(width_px), height(height_px) {
    check(width > 0 && height > 0, "image: width and height must be positive");
    pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) set(x, y, fill);
    }
  }

  void set(int x, int y, Color color) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      pixels[index(x, y) + channel] = color[channel];
    }
  }
  Color at(int x, int y) const {
    const std::size_t first = index(x, y);
    return {pixels[first], pixels[first + 1], pixels[first + 2]};
  }

 private:
  std::size_t index(int x, int y) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
            static_cast<std::size_t>(x)) *
           3;
  }
};

}  // namespace perpend
