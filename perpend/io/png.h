#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "perpend/core/image.h"

namespace perpend {

// The bytes of an 8-bit RGB PNG file. Throws IoError with a reason.
std::string encode_png(const Image& image);

// The same with transparency. `pixels` is [height, width, 4]: red, green, blue, opacity.
std::string encode_png(int width, int height, std::span<const std::uint8_t> pixels);

// Writes an 8-bit RGB PNG. Throws IoError with path and reason; an existing file is replaced as a
// whole.
void write_png(const Image& image, const std::string& path);

}  // namespace perpend
