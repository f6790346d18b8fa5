#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace perpend {

// Cuts a stream of text at the stop string that ends first (of two that end together, the longer),
// holding back only what may still become one. Where the pushes cut the text makes no difference.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);

  // Text that is certain now. After a match it is what came before the stop string.
  std::string push(std::string_view text);
  // What was held back, at the end of the stream.
  std::string finish();
  bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace perpend
