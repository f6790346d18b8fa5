#include "perpend/io/font_file.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include "perpend/core/error.h"

namespace perpend {
namespace {

// Sizes and places of FreeType have 26 bits before the point and 6 behind it.
int whole_pixels(FT_Pos place) { return static_cast<int>((place + 32) >> 6); }

Image::Color mixed(Image::Color below, Image::Color above, unsigned coverage) {
  Image::Color color;
  for (std::size_t i = 0; i < color.size(); ++i) {
    const unsigned sum = above[i] * coverage + below[i] * (255 - coverage);
    color[i] = static_cast<std::uint8_t>((sum + 127) / 255);
  }
  return color;
}

}  // namespace

struct FontFile::Face {
  ~Face() {
    FT_Done_Face(face);
    FT_Done_FreeType(library);
  }

  FT_Library library = nullptr;
  FT_Face face = nullptr;
};

FontFile::FontFile(const std::string& path, int pixel_size) : face_(std::make_unique<Face>()) {
  if (FT_Init_FreeType(&face_->library) != 0) throw IoError("FreeType can not be started");
  const auto size = static_cast<FT_UInt>(pixel_size);
  if (FT_New_Face(face_->library, path.c_str(), 0, &face_->face) != 0 ||
      FT_Set_Pixel_Sizes(face_->face, 0, size) != 0) {
    throw IoError(concat("font ", path, ": is not there or no font that FreeType reads"));
  }
  check(FT_IS_FIXED_WIDTH(face_->face) && FT_IS_SCALABLE(face_->face),
        concat("font ", path, ": expected outlines of letters that are equally wide"));
}

FontFile::~FontFile() = default;

int FontFile::cell_width() const { return whole_pixels(face_->face->size->metrics.max_advance); }

int FontFile::cell_height() const { return whole_pixels(face_->face->size->metrics.height); }

void FontFile::draw(char32_t letter, int left, int top, Image::Color color, Image& onto) const {
  FT_Face face = face_->face;
  // Outlines become a byte of coverage a pixel, which pictures that a font brings need not be.
  if (FT_Load_Char(face, letter, FT_LOAD_RENDER | FT_LOAD_NO_BITMAP) != 0) return;
  const FT_Bitmap& bitmap = face->glyph->bitmap;
  const int first_x = left + face->glyph->bitmap_left;
  const int first_y = top + whole_pixels(face->size->metrics.ascender) - face->glyph->bitmap_top;
  for (int row = 0; row < static_cast<int>(bitmap.rows); ++row) {
    const unsigned char* coverage = bitmap.buffer + row * bitmap.pitch;
    for (int column = 0; column < static_cast<int>(bitmap.width); ++column) {
      const int x = first_x + column;
      const int y = first_y + row;
      if (x < 0 || y < 0 || x >= onto.width || y >= onto.height) continue;
      onto.set(x, y, mixed(onto.at(x, y), color, coverage[column]));
    }
  }
}

}  // namespace perpend
