#include "perpend/cli/progress_bar.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>
#include <unistd.h>

namespace perpend {

ProgressBar::ProgressBar(std::string label, std::int64_t total)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(1, total)),
      is_terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressBar::update(std::int64_t done, const std::string& note) {
  using std::chrono::milliseconds;
  const Clock::time_point now = Clock::now();
  if (!is_terminal_ || now - start_ < milliseconds(500) || now - last_ < milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  constexpr std::int64_t kWidth = 30;
  const std::int64_t filled = std::clamp<std::int64_t>(done * kWidth / total_, 0, kWidth);
  const std::chrono::duration<double> seconds = now - start_;
  const std::string end =
      note.empty() ? fmt::format("{:.0f}/s", static_cast<double>(done) / seconds.count()) : note;
  fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:.<{}}] {}/{}  {}", label_, "", filled, "",
             kWidth - filled, done, total_, end);
  std::fflush(stderr);
}

void ProgressBar::finish() {
  if (!drawn_) return;
  drawn_ = false;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace perpend
