#include "perpend/cache/canvas_rows.h"

#include <array>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::array kCaches = {CanvasCache::kNone,   CanvasCache::kBlock, CanvasCache::kSubBlock,
                                CanvasCache::kPrefix, CanvasCache::kDual,  CanvasCache::kElastic};

}  // namespace

std::string_view name_of(CanvasCache cache) {
  switch (cache) {
    case CanvasCache::kNone:
      return "none";
    case CanvasCache::kBlock:
      return "block";
    case CanvasCache::kSubBlock:
      return "sub-block";
    case CanvasCache::kPrefix:
      return "prefix";
    case CanvasCache::kDual:
      return "dual";
    case CanvasCache::kElastic:
      return "elastic";
  }
  bug("name_of: unknown cache of a canvas");
}

CanvasCache parse_canvas_cache(std::string_view name) {
  for (const CanvasCache cache : kCaches) {
    if (name == name_of(cache)) return cache;
  }
  throw InvalidArgument(
      concat("cache: expected none, block, sub-block, prefix, dual or elastic (", name, ")"));
}

bool keeps_finished(CanvasCache cache) {
  return cache == CanvasCache::kBlock || cache == CanvasCache::kSubBlock;
}

bool keeps_stale_prefix(CanvasCache cache) {
  return cache == CanvasCache::kPrefix || cache == CanvasCache::kDual;
}

Range rows_of_step(CanvasCache cache, const CanvasPlace& place) {
  const bool refresh = place.first_of_block;
  switch (cache) {
    case CanvasCache::kNone:
    case CanvasCache::kElastic:
      return {0, place.end};
    case CanvasCache::kBlock:
      return place.block;
    case CanvasCache::kSubBlock:
      // The row before a masked first token predicts it, and is not of the sub-block.
      return refresh || place.begins_masked ? place.block : place.sub_block;
    case CanvasCache::kPrefix:
      return refresh ? Range{0, place.end} : Range{place.block.begin, place.end};
    case CanvasCache::kDual:
      return refresh ? Range{0, place.end} : place.block;
  }
  bug("rows_of_step: unknown cache of a canvas");
}

}  // namespace perpend
