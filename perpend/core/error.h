#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

#include "perpend/core/concat.h"

namespace perpend {

// Base of everything a caller can cause: a wrong argument, file, request or machine. The text names
// the operation, what must hold, and the values that broke it. Errors of our own are
// std::logic_error (see bug()), so that a front end can tell the two apart.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A shape, option, mask text or request that can not be honoured.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

// Valid, but not built or not possible here; the text names the nearest supported form.
class Unsupported : public Error {
 public:
  using Error::Error;
};

// A file that is missing, unreadable or malformed; the text names file, field and expectation.
class IoError : public Error {
 public:
  using Error::Error;
};

class OutOfMemory : public Error {
 public:
  using Error::Error;
};

// A device call failed.
class DeviceError : public Error {
 public:
  using Error::Error;
};

// Exit code of a program that ends with `error`: 2 for what the user can mend (arguments, files,
// unsupported forms), 3 for memory, 4 for a device, 70 (EX_SOFTWARE) for a mistake of ours.
int exit_code(const std::exception& error);

// We are wrong: throws std::logic_error with the caller's place. User input never reaches one.
[[noreturn]] void bug(std::string_view what,
                      std::source_location where = std::source_location::current());

// Throws InvalidArgument(what) unless `condition` holds.
inline void check(bool condition, std::string_view what) {
  if (!condition) throw InvalidArgument(std::string(what));
}

// Throws InvalidArgument "<what> (<a> vs <b>)" unless a == b.
template <class A, class B>
void check_eq(const A& a, const B& b, std::string_view what) {
  if (!(a == b)) throw InvalidArgument(concat(what, " (", a, " vs ", b, ")"));
}

}  // namespace perpend
