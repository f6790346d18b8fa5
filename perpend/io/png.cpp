#include "perpend/io/png.h"

#include <png.h>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"

namespace perpend {

namespace {

std::string encode(int width, int height, png_uint_32 format, const std::uint8_t* pixels) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(width);
  header.height = static_cast<png_uint_32>(height);
  header.format = format;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&header, bytes.data(), &size, 0, pixels, 0, nullptr) == 0) {
    throw IoError(concat("PNG: ", static_cast<const char*>(header.message)));
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace

std::string encode_png(const Image& image) {
  return encode(image.width, image.height, PNG_FORMAT_RGB, image.pixels.data());
}

std::string encode_png(int width, int height, std::span<const std::uint8_t> pixels) {
  if (std::ssize(pixels) != std::ptrdiff_t{4} * width * height) bug("encode_png: not all pixels");
  return encode(width, height, PNG_FORMAT_RGBA, pixels.data());
}

void write_png(const Image& image, const std::string& path) {
  AtomicFile file(path);
  file.write(encode_png(image));
  file.commit();
}

}  // namespace perpend
