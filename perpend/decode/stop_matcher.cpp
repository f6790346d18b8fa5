#include "perpend/decode/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace perpend {
namespace {

// Length of the longest end of `text` that begins `stop`.
std::size_t partial_match(std::string_view text, std::string_view stop) {
  for (std::size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (text.substr(text.size() - size) == stop.substr(0, size)) return size;
  }
  return 0;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopMatcher::push(std::string_view text) {
  if (matched_) return "";
  held_ += text;
  // The stop string that ends first is the one that a stream of single letters would meet.
  std::size_t first = std::string::npos;
  std::size_t first_end = std::string::npos;
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    keep = std::max(keep, partial_match(held_, stop));
    const std::size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const std::size_t end = begin + stop.size();
    if (end < first_end || (end == first_end && begin < first)) {
      first = begin;
      first_end = end;
    }
  }
  matched_ = first != std::string::npos;
  const std::size_t certain = matched_ ? first : held_.size() - keep;
  std::string out = held_.substr(0, certain);
  held_.erase(0, certain);
  return out;
}

std::string StopMatcher::finish() {
  if (matched_) return "";
  return std::exchange(held_, {});
}

}  // namespace perpend
