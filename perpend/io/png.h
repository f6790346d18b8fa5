#pragma once

#include <string>

#include "perpend/core/image.h"

namespace perpend {

// The bytes of an 8-bit RGB PNG file. Throws IoError with a reason.
std::string encode_png(const Image& image);

// Writes an 8-bit RGB PNG. Throws IoError with path and reason; an existing file is replaced as a
// whole.
void write_png(const Image& image, const std::string& path);

}  // namespace perpend
