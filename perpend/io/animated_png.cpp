#include "perpend/io/animated_png.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <zlib.h>

#include "perpend/core/error.h"
#include "perpend/io/png.h"

namespace perpend {
namespace {

constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";

std::string big_endian(std::uint32_t value, int num_bytes = 4) {
  std::string bytes;
  for (int i = num_bytes - 1; i >= 0; --i) {
    bytes += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  }
  return bytes;
}

std::uint32_t read_big_endian(std::string_view bytes) {
  std::uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) {
    value = value << 8 | static_cast<unsigned char>(byte);
  }
  return value;
}

std::string chunk(std::string_view type, std::string_view data) {
  std::string body(type);
  body += data;
  const auto* bytes = reinterpret_cast<const Bytef*>(body.data());
  const auto sum = static_cast<std::uint32_t>(crc32_z(0, bytes, body.size()));
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(sum);
}

// Data of the chunks of a type in the bytes of a PNG file, joined.
std::string data_of(std::string_view type, std::string_view png) {
  std::string data;
  for (std::string_view rest = png.substr(kSignature.size()); !rest.empty();) {
    const std::uint32_t size = read_big_endian(rest);
    if (rest.substr(4, 4) == type) data += rest.substr(8, size);
    rest.remove_prefix(12 + std::size_t{size});
  }
  return data;
}

struct Rectangle {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;
};

// Where two pictures of one size differ; one pixel where they do not, since no frame is empty.
Rectangle changed(const Image& a, const Image& b) {
  Rectangle all{a.width, a.height, 0, 0};
  for (int y = 0; y < a.height; ++y) {
    for (int x = 0; x < a.width; ++x) {
      if (a.at(x, y) == b.at(x, y)) continue;
      all = {std::min(all.left, x), std::min(all.top, y), std::max(all.right, x + 1), y + 1};
    }
  }
  return all.right > 0 ? all : Rectangle{0, 0, 1, 1};
}

// A rectangle of `now`, transparent where `before`, if there is one, is the same.
std::string encode_change(const Rectangle& place, const Image& now, const Image* before) {
  std::vector<std::uint8_t> pixels;
  for (int y = place.top; y < place.bottom; ++y) {
    for (int x = place.left; x < place.right; ++x) {
      const Image::Color color = now.at(x, y);
      const bool same = before != nullptr && before->at(x, y) == color;
      const std::array<std::uint8_t, 4> pixel =
          same ? std::array<std::uint8_t, 4>{}
               : std::array<std::uint8_t, 4>{color[0], color[1], color[2], 255};
      pixels.insert(pixels.end(), pixel.begin(), pixel.end());
    }
  }
  return encode_png(place.right - place.left, place.bottom - place.top, pixels);
}

// The data of fcTL: what follows stays, and is drawn over the picture before.
std::string frame_control(std::uint32_t number, const Rectangle& place, int delay_ms) {
  const auto of = [](int value) { return big_endian(static_cast<std::uint32_t>(value)); };
  return big_endian(number) + of(place.right - place.left) + of(place.bottom - place.top) +
         of(place.left) + of(place.top) + big_endian(static_cast<std::uint32_t>(delay_ms), 2) +
         big_endian(1000, 2) + std::string("\0\1", 2);
}

}  // namespace

AnimatedPng::AnimatedPng(const std::string& path, int num_frames)
    : file_(path), num_frames_(num_frames) {
  check(num_frames > 0, concat("animation: expected at least one frame (", num_frames, ")"));
}

void AnimatedPng::begin(const std::string& first_png) {
  file_.write(kSignature);
  file_.write(chunk("IHDR", data_of("IHDR", first_png)));
  const std::string endless = big_endian(0);
  file_.write(chunk("acTL", big_endian(static_cast<std::uint32_t>(num_frames_)) + endless));
}

void AnimatedPng::add(const Image& frame, int delay_ms) {
  if (num_added_ == num_frames_) bug("AnimatedPng: more frames than were promised");
  check(delay_ms >= 0 && delay_ms <= kMaxDelayMs,
        concat("animation: expected a delay of 0 to ", kMaxDelayMs, " ms (", delay_ms, ")"));
  const bool first = num_added_ == 0;
  check(first || (frame.width == last_.width && frame.height == last_.height),
        concat("animation: frames differ in size (", frame.width, " x ", frame.height, " vs ",
               last_.width, " x ", last_.height, ")"));
  const Rectangle place =
      first ? Rectangle{0, 0, frame.width, frame.height} : changed(last_, frame);
  const std::string png = encode_change(place, frame, first ? nullptr : &last_);
  if (first) begin(png);
  file_.write(chunk("fcTL", frame_control(num_numbered_++, place, delay_ms)));
  const std::string data = data_of("IDAT", png);
  file_.write(first ? chunk("IDAT", data) : chunk("fdAT", big_endian(num_numbered_++) + data));
  last_ = frame;
  ++num_added_;
}

void AnimatedPng::finish() {
  if (num_added_ != num_frames_) bug("AnimatedPng: fewer frames than were promised");
  file_.write(chunk("IEND", ""));
  file_.commit();
}

}  // namespace perpend
