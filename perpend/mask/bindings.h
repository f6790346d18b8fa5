#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "perpend/mask/label.h"
#include "perpend/mask/tile_map.h"

namespace perpend {

// What the names of a mask stand for: labels, or tile maps for `tiles(name)`.
class Bindings {
 public:
  // Throws InvalidArgument for a name that can not be one and for a label that still has names
  // without a label. The later of two bindings of one name stands.
  Bindings& set(const std::string& name, const Label& label);
  Bindings& set(const std::string& name, const TileMap& tiles);

  // Null when the name is not bound.
  const Label* label(std::string_view name) const;
  const TileMap* tiles(std::string_view name) const;

  // The label with its names bound as far as they are known here.
  Label bind(const Label& label) const;

 private:
  std::map<std::string, Label, std::less<>> labels_;
  std::map<std::string, TileMap, std::less<>> tiles_;
};

// Reads `doc = segments(160*101, 224); step = block(93)`; a label may use names given before it.
// Throws InvalidArgument with the column (from 1) and what was expected there, and for a name that
// is bound twice.
Bindings parse_bindings(std::string_view text);

}  // namespace perpend
