#include "perpend/io/home_folder.h"

#include <cstdlib>

namespace perpend {

std::filesystem::path home_folder() {
  namespace fs = std::filesystem;
  if (const char* home = std::getenv("PERPEND_HOME")) return home;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return fs::path(cache) / "perpend";
  const char* user = std::getenv("HOME");
  return fs::path(user == nullptr ? "." : user) / ".cache/perpend";
}

}  // namespace perpend
