#include "perpend/core/error.h"

#include <new>

namespace perpend {

int exit_code(const std::exception& error) {
  if (dynamic_cast<const OutOfMemory*>(&error) || dynamic_cast<const std::bad_alloc*>(&error)) {
    return 3;
  }
  if (dynamic_cast<const DeviceError*>(&error)) return 4;
  if (dynamic_cast<const Error*>(&error)) return 2;
  return 70;
}

void bug(std::string_view what, std::source_location where) {
  throw std::logic_error(
      concat("internal error at ", where.file_name(), ":", where.line(), ": ", what));
}

}  // namespace perpend
