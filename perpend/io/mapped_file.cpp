#include "perpend/io/mapped_file.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& path) {
  throw IoError(concat(path, ": ", std::generic_category().message(errno)));
}

}  // namespace

void UnmapBytes::operator()(const std::byte* data) const {
  ::munmap(const_cast<std::byte*>(data), size);
}

MappedFile MappedFile::open(const std::string& path) {
  const Descriptor file(path);
  if (file.get() < 0) fail(path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(path);
  if (!S_ISREG(status.st_mode)) throw IoError(concat(path, ": not a regular file"));
  if (status.st_size == 0) throw IoError(concat(path, ": the file is empty"));
  MappedFile result;
  result.path_ = path;
  result.size_ = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, result.size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail(path);
  result.data_ = {static_cast<const std::byte*>(data), UnmapBytes{result.size_}};
  return result;
}

}  // namespace perpend
