#include "perpend/io/png.h"

#include <png.h>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"

namespace perpend {

std::string encode_png(const Image& image) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr) ==
      0) {
    throw IoError(concat("PNG: ", static_cast<const char*>(header.message)));
  }
  bytes.resize(size);
  return bytes;
}

void write_png(const Image& image, const std::string& path) {
  AtomicFile file(path);
  file.write(encode_png(image));
  file.commit();
}

}  // namespace perpend
