#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace perpend {

// One line of a log.
struct LogEntry {
  // On data that a run is evaluated on.
  struct Score {
    double loss = 0.0;
    double exact_match = 0.0;
  };

  std::int64_t step = 0;
  double loss = 0.0;
  std::vector<std::pair<std::string, double>> parts;  // each loss by its name
  double learning_rate = 0.0;
  double grad_norm = 0.0;
  std::int64_t tokens = 0;  // since the run began
  double tokens_per_s = 0.0;
  double mfu = 0.0;  // share of the peak; 0: the peak is not known
  std::optional<Score> evaluation;
};

// A file of one JSON object a line, each written out at once. A run that goes on after `last_step`
// first removes what a killed one wrote beyond it.
class TrainLog {
 public:
  // Keeps the lines up to `last_step`. Throws IoError with path and reason.
  TrainLog(const std::string& path, std::int64_t last_step);

  void write(const LogEntry& entry);

 private:
  std::string path_;
  std::ofstream file_;
};

// The entries of such a file. Throws IoError "<path>:<line>: ..." for lines that are none; a last
// line that was cut off is left out.
std::vector<LogEntry> read_train_log(const std::string& path);

}  // namespace perpend
