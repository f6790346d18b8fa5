#pragma once

#include <memory>
#include <string>

#include "perpend/core/image.h"

namespace perpend {

// A font of letters that are equally wide (TrueType, OpenType), drawn in one size into pictures.
class FontFile {
 public:
  // Throws IoError with path and reason, InvalidArgument for letters of different widths and for
  // ones that are no outlines, and Unsupported in a build without FreeType.
  FontFile(const std::string& path, int pixel_size);
  ~FontFile();
  FontFile(const FontFile&) = delete;
  FontFile& operator=(const FontFile&) = delete;

  // Of the cell of a letter, in pixels.
  int cell_width() const;
  int cell_height() const;

  // Draws a letter over what the picture has, its cell at (left, top); what lies outside of the
  // picture is left out. For a character that the font lacks this is the font's own sign.
  void draw(char32_t letter, int left, int top, Image::Color color, Image& onto) const;

 private:
  struct Face;

  std::unique_ptr<Face> face_;
};

}  // namespace perpend
