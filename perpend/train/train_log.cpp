#include "perpend/train/train_log.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

std::string line_of(const LogEntry& entry, const std::string& path) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::object();
  for (const auto& [name, value] : entry.parts) parts[name] = value;
  nlohmann::ordered_json json = {{"step", entry.step},
                                 {"loss", entry.loss},
                                 {"losses", parts},
                                 {"learning_rate", entry.learning_rate},
                                 {"grad_norm", entry.grad_norm},
                                 {"tokens", entry.tokens},
                                 {"tokens_per_s", entry.tokens_per_s}};
  if (entry.mfu > 0) json["mfu"] = entry.mfu;
  if (entry.evaluation) {
    json["evaluation"] = {{"loss", entry.evaluation->loss},
                          {"exact_match", entry.evaluation->exact_match}};
  }
  return json_line(json, path) + "\n";
}

// Numbers that are no numbers are null in JSON.
double number_of(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::numeric_limits<double>::quiet_NaN();
  return found->get<double>();
}

LogEntry entry_of(const std::string& line, const std::string& place) {
  const nlohmann::json json = parse_json_object(line, place);
  try {
    LogEntry entry;
    entry.step = json.at("step").get<std::int64_t>();
    entry.loss = number_of(json, "loss");
    for (const auto& [name, value] : json.at("losses").items()) {
      entry.parts.emplace_back(name, number_of(json["losses"], name.c_str()));
    }
    entry.learning_rate = number_of(json, "learning_rate");
    entry.grad_norm = number_of(json, "grad_norm");
    entry.tokens = json.at("tokens").get<std::int64_t>();
    entry.tokens_per_s = number_of(json, "tokens_per_s");
    entry.mfu = json.value("mfu", 0.0);
    if (json.contains("evaluation")) {
      const nlohmann::json& score = json["evaluation"];
      entry.evaluation = {number_of(score, "loss"), number_of(score, "exact_match")};
    }
    return entry;
  } catch (const nlohmann::json::exception& error) {
    throw IoError(concat(place, ": not an entry of a training log: ", error.what()));
  }
}

}  // namespace

TrainLog::TrainLog(const std::string& path, std::int64_t last_step) : path_(path) {
  std::string kept;
  if (last_step > 0 && read_text_file_if_any(path)) {
    for (const LogEntry& entry : read_train_log(path)) {
      if (entry.step <= last_step) kept += line_of(entry, path);
    }
  }
  AtomicFile whole(path);
  whole.write(kept);
  whole.commit();
  file_.open(path, std::ios::app);
  if (!file_) throw IoError(path + ": can not be written");
}

void TrainLog::write(const LogEntry& entry) {
  file_ << line_of(entry, path_) << std::flush;
  if (!file_) throw IoError(path_ + ": could not be written (disk full?)");
}

std::vector<LogEntry> read_train_log(const std::string& path) {
  const std::string text = read_text_file(path);
  std::vector<LogEntry> entries;
  std::size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    entries.push_back(entry_of(text.substr(begin, end - begin), concat(path, ":", number)));
    begin = end + 1;
  }
  return entries;
}

}  // namespace perpend
