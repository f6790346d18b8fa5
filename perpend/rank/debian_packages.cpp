#include "perpend/rank/debian_packages.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

// Calls field(name, value) for the fields of each paragraph and finish() behind it. A value goes on
// over the lines that begin with a blank.
template <class Field, class Finish>
void for_paragraphs(std::string_view text, Field field, Finish finish) {
  bool open = false;
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    while (end != std::string_view::npos && end + 1 < text.size() && text[end + 1] == ' ') {
      end = text.find('\n', end + 1);
    }
    const std::string_view lines = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), lines.size() + 1));
    if (lines.empty()) {
      if (open) finish();
      open = false;
      continue;
    }
    open = true;
    const std::size_t colon = lines.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view value = lines.substr(colon + 1);
    value.remove_prefix(std::min(value.size(), value.find_first_not_of(' ')));
    field(lines.substr(0, colon), value);
  }
  if (open) finish();
}

// The lines behind the first: those of a paragraph flow together, a lone dot ends it, lines with
// two blanks stand for themselves.
std::string long_description(std::string_view value) {
  std::string text;
  while (true) {
    const std::size_t end = value.find('\n');
    if (end == std::string_view::npos) return text;
    value.remove_prefix(end + 2);  // the line break and the blank that goes with it
    const std::string_view line = value.substr(0, value.find('\n'));
    if (line == ".") {
      text += '\n';
      continue;
    }
    const bool flows = !line.starts_with(' ') && !text.empty() && text.back() != '\n';
    if (!text.empty() && text.back() != '\n') text += flows ? ' ' : '\n';
    text += line.substr(std::min(line.size(), line.find_first_not_of(' ')));
  }
}

std::string first_word(std::string_view text) {
  return std::string(text.substr(0, text.find(' ')));
}

}  // namespace

std::vector<DebianPackage> parse_debian_packages(std::span<const std::string> packages,
                                                 std::span<const std::string> translations) {
  // Descriptions that are the same have the same sum, whichever package has them.
  std::unordered_map<std::string, std::string> descriptions;
  std::string sum;
  std::string description;
  for (const std::string& text : translations) {
    for_paragraphs(
        text,
        [&](std::string_view name, std::string_view value) {
          if (name == "Description-md5") sum = value;
          if (name == "Description-en") description = long_description(value);
        },
        [&] { descriptions.emplace(std::move(sum), std::move(description)); });
  }
  std::vector<DebianPackage> result;
  std::unordered_set<std::string> known;
  for (const std::string& text : packages) {
    DebianPackage package;
    for_paragraphs(
        text,
        [&](std::string_view name, std::string_view value) {
          if (name == "Package") package.name = value;
          if (name == "Source") package.source = first_word(value);
          if (name == "Section") package.section = value;
          if (name == "Description") package.synopsis = value.substr(0, value.find('\n'));
          if (name == "Description-md5") sum = value;
        },
        [&] {
          const auto found = descriptions.find(sum);
          if (package.source.empty()) package.source = package.name;
          if (found != descriptions.end() && !found->second.empty() &&
              known.insert(package.name).second) {
            package.description = found->second;
            result.push_back(std::move(package));
          }
          package = {};
        });
  }
  return result;
}

namespace {

constexpr std::array<const char*, 5> kKeys = {"id", "source", "section", "synopsis", "text"};

std::array<std::string*, 5> fields_of(DebianPackage& package) {
  return {&package.name, &package.source, &package.section, &package.synopsis,
          &package.description};
}

void write_cache(std::vector<DebianPackage>& packages, const std::string& path) {
  AtomicFile file(path);
  for (DebianPackage& package : packages) {
    nlohmann::ordered_json line;
    for (std::size_t i = 0; i < kKeys.size(); ++i) line[kKeys[i]] = *fields_of(package)[i];
    file.write(json_line(line, path) + "\n");
  }
  file.commit();
}

std::vector<DebianPackage> read_cache(std::string_view text, const std::string& path) {
  std::vector<DebianPackage> packages;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::string where = concat(path, ": line ", number);
    const nlohmann::json object = parse_json_object(line, where);
    DebianPackage& package = packages.emplace_back();
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      if (!object.contains(kKeys[i]) || !object[kKeys[i]].is_string()) {
        throw IoError(concat(where, ": key '", kKeys[i], "': expected a text; remove the file"));
      }
      *fields_of(package)[i] = object[kKeys[i]].get<std::string>();
    }
  }
  return packages;
}

// Runs apt-get with its output in `log`. Throws IoError with the last line of the log.
void run_apt_update(const fs::path& lists, const std::string& log) {
  const std::string state = "Dir::State::Lists=" + fs::absolute(lists).string();
  std::array<const char*, 9> arguments = {"apt-get",
                                          "-o",
                                          "Acquire::Languages=en",
                                          "-o",
                                          "Acquire::GzipIndexes=false",
                                          "-o",
                                          state.c_str(),
                                          "update",
                                          nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int fault = posix_spawnp(&child, arguments[0], &actions, nullptr,
                                 const_cast<char* const*>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (fault != 0) throw IoError(concat("debian: apt-get: ", std::strerror(fault)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::string output = read_text_file_if_any(log).value_or("");
  while (output.ends_with('\n')) output.pop_back();
  throw IoError(concat("debian: apt-get update failed: ", output.substr(output.rfind('\n') + 1)));
}

std::vector<DebianPackage> fetch(const fs::path& folder) {
  const fs::path lists = folder / "lists";
  fs::create_directories(lists / "partial");
  run_apt_update(lists, (folder / "apt.log").string());
  std::vector<std::string> packages;
  std::vector<std::string> translations;
  for (const fs::directory_entry& entry : fs::directory_iterator(lists)) {
    const std::string name = entry.path().filename().string();
    const bool translated = name.ends_with("_Translation-en");
    if (!translated && !name.ends_with("_Packages")) continue;
    (translated ? translations : packages).push_back(read_text_file(entry.path().string()));
  }
  fs::remove_all(lists);
  std::vector<DebianPackage> result = parse_debian_packages(packages, translations);
  if (result.empty()) {
    throw IoError(
        "debian: apt-get update brought no package with a long description; "
        "this needs Debian's own archive among the sources of apt");
  }
  return result;
}

}  // namespace

std::vector<DebianPackage> debian_packages(const std::string& cache_path,
                                           const std::function<void()>& fetching) {
  if (const auto text = read_text_file_if_any(cache_path)) return read_cache(*text, cache_path);
  if (fetching) fetching();
  std::vector<DebianPackage> packages;
  try {
    packages = fetch(fs::path(cache_path).parent_path());
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat("debian: ", error.what()));
  }
  write_cache(packages, cache_path);
  return packages;
}

}  // namespace perpend
