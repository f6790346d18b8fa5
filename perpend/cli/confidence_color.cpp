#include "perpend/cli/confidence_color.h"

#include <algorithm>
#include <array>

namespace perpend {

ConfidenceColor confidence_color(float confidence) {
  // Levels of red, green and blue in the colour cube of terminals.
  constexpr std::array<std::array<int, 3>, 8> kCube = {
      {{4, 0, 0}, {4, 1, 0}, {4, 2, 0}, {4, 3, 0}, {3, 4, 0}, {2, 4, 0}, {1, 4, 0}, {0, 4, 0}}};
  constexpr std::array<std::uint8_t, 6> kLevels = {0, 95, 135, 175, 215, 255};
  const auto last = static_cast<float>(kCube.size() - 1);
  const auto& [red, green, blue] =
      kCube[static_cast<std::size_t>(std::clamp(confidence, 0.0F, 1.0F) * last)];
  const auto level = [&](int index) { return kLevels[static_cast<std::size_t>(index)]; };
  return {16 + 36 * red + 6 * green + blue, {level(red), level(green), level(blue)}};
}

}  // namespace perpend
