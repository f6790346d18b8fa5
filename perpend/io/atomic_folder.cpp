#include "perpend/io/atomic_folder.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {

namespace fs = std::filesystem;

AtomicFolder::AtomicFolder(const std::string& path)
    // Without the slash that a folder's name may end in.
    : path_((fs::path(path) / "").parent_path().string()),
      staging_path_(concat(path_, ".tmp", ::getpid())) {
  std::error_code error;
  // Left by a process of the same number that was killed.
  fs::remove_all(staging_path_, error);
  if (!error) fs::create_directory(staging_path_, error);
  if (error) throw IoError(concat(path, ": ", error.message()));
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  fs::remove_all(staging_path_, ignored);
}

void AtomicFolder::commit(FunctionRef<bool(std::string_view)> is_stale) {
  try {
    if (fs::exists(path_)) {
      move_files(is_stale);
    } else {
      fs::rename(staging_path_, path_);
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(path_, ": ", error.code().message()));
  }
}

void AtomicFolder::move_files(FunctionRef<bool(std::string_view)> is_stale) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(staging_path_)) {
    names.push_back(entry.path().filename().string());
  }
  for (const std::string& name : names) {
    fs::rename(fs::path(staging_path_) / name, fs::path(path_) / name);
  }
  const std::set<std::string> fresh(names.begin(), names.end());
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !fresh.contains(name) && is_stale(name)) {
      stale.push_back(entry.path());
    }
  }
  for (const fs::path& path : stale) fs::remove(path);
}

}  // namespace perpend
