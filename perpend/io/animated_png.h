#pragma once

#include <cstdint>
#include <string>

#include "perpend/core/image.h"
#include "perpend/io/atomic_file.h"

namespace perpend {

// An animated PNG (PNG specification, third edition, section 4.9): pictures of one size that are
// shown one after another, again and again; programs that know no animation show the first. Of each
// frame only the pixels that changed are stored.
class AnimatedPng {
 public:
  static constexpr int kMaxDelayMs = 65535;

  // Throws IoError with path and reason, and InvalidArgument for less than one frame.
  AnimatedPng(const std::string& path, int num_frames);

  // The next frame, shown for `delay_ms`. Throws InvalidArgument for another size than the first
  // one's and a delay outside of [0, kMaxDelayMs].
  void add(const Image& frame, int delay_ms);
  // After the last frame: the file is there now, and replaces an older one as a whole. Throws
  // IoError.
  void finish();

 private:
  void begin(const std::string& first_png);

  AtomicFile file_;
  int num_frames_;
  int num_added_ = 0;
  std::uint32_t num_numbered_ = 0;  // chunks that carry a number
  Image last_;
};

}  // namespace perpend
