#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perpend {

// A package of Debian as its index describes it.
struct DebianPackage {
  std::string name;
  std::string source;  // package that it is built from
  std::string section;
  std::string synopsis;     // the first line of its description
  std::string description;  // all others, paragraphs with a line break between them
};

// The packages of `Packages` files with their long descriptions from `Translation-en` files (their
// texts). The first of several versions of a package counts; packages without a long description
// are left out. Fields: deb822(5); descriptions: Debian policy 5.6.13.
std::vector<DebianPackage> parse_debian_packages(std::span<const std::string> packages,
                                                 std::span<const std::string> translations);

// All packages that apt knows of here: from `cache_path`, or fetched by `apt-get update` into a
// folder beside it, without touching the system's own lists, and kept there. `fetching` is called
// before the network is used. Throws IoError with path and reason.
std::vector<DebianPackage> debian_packages(const std::string& cache_path,
                                           const std::function<void()>& fetching = {});

}  // namespace perpend
