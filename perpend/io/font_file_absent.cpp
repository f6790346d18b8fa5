// The class of font_file.h in a build without FreeType.

#include "perpend/core/error.h"
#include "perpend/io/font_file.h"

namespace perpend {

struct FontFile::Face {};

FontFile::FontFile(const std::string& path, int /*pixel_size*/) {
  throw Unsupported(concat("font ", path,
                           ": this build draws no letters; install FreeType (libfreetype-dev) and "
                           "build again"));
}

FontFile::~FontFile() = default;

// NOLINTBEGIN(readability-convert-member-functions-to-static): they are members of the class
int FontFile::cell_width() const { bug("FontFile: there is none"); }
int FontFile::cell_height() const { bug("FontFile: there is none"); }

void FontFile::draw(char32_t /*letter*/, int /*left*/, int /*top*/, Image::Color /*color*/,
                    Image& /*onto*/) const {
  bug("FontFile: there is none");
}
// NOLINTEND(readability-convert-member-functions-to-static)

}  // namespace perpend
