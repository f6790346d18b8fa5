#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace perpend {

struct StringHash : std::hash<std::string_view> {
  using is_transparent = void;
};

// Token texts to ids.
class Vocabulary {
 public:
  void reserve(std::size_t size) { ids_.reserve(size); }
  // False if `text` has an id already; it stays.
  bool add(std::string_view text, std::int32_t id) {
    return ids_.try_emplace(std::string(text), id).second;
  }
  std::optional<std::int32_t> find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>> ids_;
};

}  // namespace perpend
