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

int FontFile::cell_width() const { bug("FontFile: there is none"); }
int FontFile::cell_height() const { bug("FontFile: there is none"); }

void FontFile::draw(char32_t /*letter*/, int /*left*/, int /*top*/, Image::Color /*color*/,
                    Image& /*onto*/) const {
  bug("FontFile: there is none");
}

}  // namespace perpend
