#include "perpend/cli/rank_explanation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/core.h>

#include "perpend/rank/heat_picture.h"

namespace perpend {
namespace {

constexpr std::size_t kNumHeaviest = 8;

// The token's text on one line.
std::string visible(const Tokenizer& tokenizer, std::int32_t token) {
  std::string text = tokenizer.token_bytes(token);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char letter) { return letter < ' '; }, ' ');
  return text;
}

}  // namespace

std::string heaviest_tokens(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens,
                            std::span<const float> weights) {
  std::vector<std::size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  order.resize(std::min(order.size(), kNumHeaviest));
  std::string text;
  for (const std::size_t i : order) {
    text += fmt::format("{}'{}' {:.1f} %", text.empty() ? "" : ", ", visible(tokenizer, tokens[i]),
                        100 * weights[i] / std::max(total, 1e-30));
  }
  return text;
}

std::string shaded_text(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens,
                        std::span<const float> weights, float heaviest) {
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double share = std::sqrt(weights[i] / std::max(heaviest, 1e-30F));
    const Image::Color back = heat_color(share);
    text += fmt::format("\x1b[48;2;{};{};{};38;5;{}m{}", back[0], back[1], back[2],
                        share > 0.7 ? 15 : 16, visible(tokenizer, tokens[i]));
  }
  return text + "\x1b[0m";
}

}  // namespace perpend
