#include "perpend/cli/shipped_adapters.h"

#include <array>
#include <filesystem>

#include "perpend/core/error.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;
using Places = std::array<fs::path, 2>;

// Beside the bin/ that the program is installed in, and in the checkout it was built from.
Places places_of(const std::string& name) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return {program.parent_path().parent_path() / "share/perpend" / name,
          fs::path(PERPEND_ASSETS) / name};
}

// Which folder of experiments/ makes an adapter.
struct ShippedAdapter {
  std::string_view name;
  std::string_view experiment;
};

constexpr std::array kAdapters = {ShippedAdapter{"debian-ranker", "debian-ranker"},
                                  ShippedAdapter{"smollm2-diffusion", "block-diffusion"}};

const ShippedAdapter* find_adapter(std::string_view name) {
  for (const ShippedAdapter& adapter : kAdapters) {
    if (adapter.name == name) return &adapter;
  }
  return nullptr;
}

}  // namespace

bool is_shipped_adapter(std::string_view name) { return find_adapter(name) != nullptr; }

std::string shipped_adapter(const std::string& name) {
  const ShippedAdapter* adapter = find_adapter(name);
  if (adapter == nullptr) bug("shipped_adapter: not a name of one");
  const Places places = places_of(name);
  std::error_code error;
  for (const fs::path& place : places) {
    if (fs::exists(place, error)) return place.string();
  }
  throw IoError(concat("model '", name, "': its adapter is missing (", places[1].string(), " or ",
                       places[0].string(), "); experiments/", adapter->experiment,
                       "/README.md tells how to make it"));
}

}  // namespace perpend
