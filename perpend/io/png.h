#pragma once

#include <string>

#include "perpend/core/image.h"

namespace perpend {

// Writes an 8-bit RGB PNG. Throws IoError with path and reason; an existing file is replaced as a
// whole.
void write_png(const Image& image, const std::string& path);

}  // namespace perpend
