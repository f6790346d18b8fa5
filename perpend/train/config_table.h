#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace perpend {

// A table of a TOML file whose keys are read one by one; what nobody asked for is an error in the
// end. All errors are IoError "<file>:<line>: ...".
class ConfigTable {
 public:
  // The table that the whole file is. Throws IoError for text that is no TOML.
  static ConfigTable open(const std::string& path);
  static ConfigTable parse(std::string_view text, const std::string& name);

  // Counts as reading the key.
  bool has(const std::string& key) const { return find(key) != nullptr; }

  // Each throws for a value of another type or out of range, and for a missing key without
  // `otherwise`.
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max,
                       std::optional<std::int64_t> otherwise = {}) const;
  double number(const std::string& key, double min, double max,
                std::optional<double> otherwise = {}) const;
  std::string text(const std::string& key, std::optional<std::string> otherwise = {}) const;
  // One of `choices`.
  std::string choice(const std::string& key, const std::vector<std::string>& choices,
                     std::optional<std::string> otherwise = {}) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::vector<std::string> texts(const std::string& key, std::vector<std::string> otherwise) const;

  // The table under `key`; an empty one when there is none.
  ConfigTable table(const std::string& key) const;
  // The tables of [[key]], none when the key is missing.
  std::vector<ConfigTable> tables(const std::string& key) const;

  // Throws for the first key that was not read, with the nearest one that was.
  void check_all_read() const;
  // Throws IoError "<file>:<line>: <table>: <key>: <what>".
  [[noreturn]] void fail(const std::string& key, std::string_view what) const;

 private:
  struct File {
    std::string name;
    std::map<std::string, int> lines;  // by the full name of a key: "optimizer.schedule"
  };
  ConfigTable(std::shared_ptr<const File> file, nlohmann::json values, std::string prefix)
      : file_(std::move(file)), values_(std::move(values)), prefix_(std::move(prefix)) {}

  // The value; null when it is missing.
  const nlohmann::json* find(const std::string& key) const;
  [[noreturn]] void wrong(const std::string& key, std::string_view expected) const;
  [[noreturn]] void missing(const std::string& key) const;
  std::string place(const std::string& key) const;

  std::shared_ptr<const File> file_;
  nlohmann::json values_;
  std::string prefix_;  // "optimizer.", "loss[1].", "" at the root
  mutable std::set<std::string, std::less<>> asked_;
};

}  // namespace perpend
