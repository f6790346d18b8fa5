#pragma once

#include <string>
#include <string_view>

#include "perpend/core/function_ref.h"

namespace perpend {

// A folder that appears whole or not at all: filled beside its place under a temporary name and
// moved there by commit(). Without commit() nothing is left behind.
class AtomicFolder {
 public:
  // Throws IoError with path and reason.
  explicit AtomicFolder(const std::string& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  // Where the files are to be written until commit().
  const std::string& staging_path() const { return staging_path_; }
  // Where a folder is already, its files of the same names are replaced, then those removed whose
  // names `is_stale` picks; others stay. Throws IoError with path and reason.
  void commit(FunctionRef<bool(std::string_view name)> is_stale);

 private:
  void move_files(FunctionRef<bool(std::string_view name)> is_stale);

  std::string path_;
  std::string staging_path_;
};

}  // namespace perpend
