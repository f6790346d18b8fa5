#include "perpend/cli/shipped_files.h"

#include <array>
#include <filesystem>

#include "perpend/core/error.h"

namespace perpend {

std::string shipped_path(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const std::array<fs::path, 2> places = {
      program.parent_path().parent_path() / "share/perpend" / name,
      fs::path(PERPEND_ASSETS) / name,
  };
  for (const fs::path& place : places) {
    if (fs::exists(place, error)) return place.string();
  }
  throw IoError(concat("'", name, "' is missing: it comes with perpend as ", places[0].string(),
                       " or ", places[1].string()));
}

}  // namespace perpend
