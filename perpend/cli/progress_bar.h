#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace perpend {

// How far a long piece of work has come, on one line of standard error that is drawn over and
// erased at the end. Silent when standard error is no terminal, and in the first half second.
class ProgressBar {
 public:
  ProgressBar(std::string label, std::int64_t total);
  ~ProgressBar() { finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `note` stands at the end of the line in place of the rate.
  void update(std::int64_t done, const std::string& note = "");
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  std::int64_t total_;
  bool is_terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace perpend
